"""What is given in each application (Lumiere, Sec. 4.2): the videos differ, the model does not.

All take and return clips of one video in a model's frames: uint8 't h w 3', and masks 't h w' that
are true where the video is to be made.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, UInt8

from core import video
from core.errors import UserError
from core.given import Given

Clip = UInt8[np.ndarray, 't h w 3']
Mask = Bool[np.ndarray, 't h w']


def image_to_video(image: UInt8[np.ndarray, '1 h w 3'], frames: int) -> Given:
  """The image is the first frame; nothing of the others is known."""
  clip = np.repeat(image, frames, 0)
  return inpainting(clip, _but_first(np.ones(clip.shape[:3], bool)))


def inpainting(clip: Clip, hidden: Mask) -> Given:
  """The clip but for what is hidden."""
  known = jnp.asarray(~hidden[None, ..., None], jnp.float32)
  return Given.of(jnp.asarray(video.to_float(clip))[None], known)


def cinemagraph(
  image: UInt8[np.ndarray, '1 h w 3'], region: Bool[np.ndarray, '1 h w'], frames: int
) -> Given:
  """The image in every frame, but for a region of all frames after the first."""
  clip = np.repeat(image, frames, 0)
  return inpainting(clip, _but_first(np.repeat(region, frames, 0)))


def outpainting(clip: Clip, left: int, top: int, right: int, bottom: int) -> Given:
  """The clip inside a border of so many pixels."""
  border = [(0, 0), (top, bottom), (left, right)]
  hidden = np.pad(np.zeros(clip.shape[:3], bool), border, constant_values=True)
  return inpainting(np.pad(clip, [*border, (0, 0)]), hidden)


def boxed(clip: Clip, x: int, y: int, width: int, height: int) -> Mask:
  """True in a box of so many pixels, the first `x` from the left and `y` from the top.

  ValueError where it is not inside the frame.
  """
  h, w = clip.shape[1:3]
  if not (0 <= x < x + width <= w and 0 <= y < y + height <= h):
    raise UserError(
      f'Got a box of {width}x{height} pixels at {x},{y}; allowed is one inside {w}x{h} pixels.'
    )
  hidden = np.zeros(clip.shape[:3], bool)
  hidden[:, y : y + height, x : x + width] = True
  return hidden


def _but_first(hidden):
  hidden[0] = False
  return hidden
