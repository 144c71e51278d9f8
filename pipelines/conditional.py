"""The masked condition of each application (Lumiere, Sec. 4.2).  The network is the same for all.

Functions take a clip, and `hidden`, which is true where the network does not see the clip and
generates the pixels: there the mask of a user is white.  `Condition.mask` is the complement, as in
the paper: it is 1 where a pixel is given, and 0 where it is hidden.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, UInt8

from core import video
from core.condition import Condition
from core.errors import UserError

Clip = UInt8[np.ndarray, 't h w 3']
Hidden = Bool[np.ndarray, 't h w']  # true where the network generates the pixels of a clip


def image_to_video(image: UInt8[np.ndarray, '1 h w 3'], frames: int) -> Condition:
  """The image is the first frame, and all other frames are generated."""
  clip = np.repeat(image, frames, 0)
  return inpainting(clip, _but_first(np.ones(clip.shape[:3], bool)))


def inpainting(clip: Clip, hidden: Hidden) -> Condition:
  """The clip is given except where it is hidden, and generated there."""
  mask = jnp.asarray(~hidden[None, ..., None], jnp.float32)
  return Condition.from_mask(jnp.asarray(video.to_float(clip))[None], mask)


def cinemagraph(
  image: UInt8[np.ndarray, '1 h w 3'], hidden: Bool[np.ndarray, '1 h w'], frames: int
) -> Condition:
  """The image is given in the first frame, and in the others except where it is hidden."""
  clip = np.repeat(image, frames, 0)
  return inpainting(clip, _but_first(np.repeat(hidden, frames, 0)))


def outpainting(clip: Clip, left: int, top: int, right: int, bottom: int) -> Condition:
  """The clip is given inside a border that is generated, of this many pixels on each side."""
  border = [(0, 0), (top, bottom), (left, right)]
  hidden = np.pad(np.zeros(clip.shape[:3], bool), border, constant_values=True)
  return inpainting(np.pad(clip, [*border, (0, 0)]), hidden)


def hidden_box(clip: Clip, x: int, y: int, width: int, height: int) -> Hidden:
  """True in a box, whose first pixel is `x` from the left and `y` from the top.

  ValueError if the box is not inside the frame.
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
