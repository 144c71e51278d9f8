"""Temporal MultiDiffusion (Lumiere, Sec. 3.2; Bar-Tal et al., 2023): short windows, one video.

A network that sees few frames at a time makes a video of any length without a seam, if at every
step its answers for overlapping windows are brought together to the video nearest to all of them,

  argmin_J  sum_i || W (J_(i) - Phi(J_(i))) ||^2,

J_(i) being the frames in window i: each frame is the mean over the windows which cover it, weighed
by W^2.  The weights rise over the frames that a window shares with the one before, and fall over
those that it shares with the next: equal ones would jump at both ends of them by half of what the
two disagree in.  All windows are cut from one noisy video, so that what they share has the same
noise.
"""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jax.sharding import Sharding
from jaxtyping import Float as HostFloat
from jaxtyping import Int

from core.errors import UserError
from core.typing import Float, Video
from diffusion.denoiser import Denoiser


def over_windows(
  denoiser: Denoiser,
  *,
  window: int,
  overlap: int,
  at_once: int = 1,
  sharding: Sharding | None = None,
  learned: bool = False,
) -> Denoiser:
  """The denoiser of videos of any length whose answers are weighted means of those for windows.

  window, overlap: frames of a window, and how many of them the next one shares.  Of a video no
    longer than a window there is one window, and an image has none.  ValueErrors are those of
    `starts`.
  at_once: windows denoised together.  Memory grows with it, not with the number of windows.
  sharding: of the first axis of windows, over the devices among which those at once are spread.
  learned: whether what answers say of a learned variance is wanted, too.

  A condition's videos are cut like the video itself; its other fields are the same for every
  window.
  """
  if at_once < 1:
    raise UserError(f'Got {at_once} windows at once; allowed is 1 or more.')
  starts(window, window, overlap)  # whose errors need no video

  place = lambda x: jax.lax.with_sharding_constraint(x, sharding) if sharding else x

  def denoise(xt, t, cond):
    b, frames = xt.shape[:2]
    if frames == 1:
      return denoiser(xt, t, cond)
    if overlap >= frames:
      raise UserError(
        f'Got an overlap of {overlap} frames in a video of {frames}; allowed is 0 to {frames - 1}.'
      )
    length = min(window, frames)
    first = starts(frames, length, overlap)
    weigh = jnp.asarray(weights(length, overlap), jnp.float32)
    share = jnp.asarray(1 / coverage(frames, length, overlap), jnp.float32)

    def windows(video, first):
      cut = lambda i: jax.lax.dynamic_slice_in_dim(video, i, length, axis=1)
      return place(rearrange(jax.vmap(cut)(first), 'k b t ... -> (k b) t ...'))

    def add(total, chunk):
      first, counts = chunk
      conds = jax.tree.map(lambda a: repeat(a, 'b ... -> (k b) ...', k=at_once), cond_of_all)
      conds = conds.replace(**{k: windows(video, first) for k, video in cond.videos.items()})
      x0 = place(denoiser(windows(xt, first), repeat(t, 'b -> (k b)', k=at_once), conds))
      x0 = rearrange(x0[..., :channels], '(k b) ... -> k b ...', b=b)
      for k in range(at_once):
        part = jax.lax.dynamic_slice_in_dim(share, first[k], length) * weigh * counts[k]
        total = _added(total, x0[k] * part[None, :, None, None, None], first[k])
      return total, None

    cond_of_all = cond.replace(**dict.fromkeys(cond.videos))
    channels = xt.shape[-1] * (2 if learned else 1)
    total = jnp.zeros((*xt.shape[:-1], channels), jnp.float32)
    return jax.lax.scan(add, total, _chunks(first, at_once))[0]

  return denoise


def _chunks(first: Int[np.ndarray, ' n'], at_once: int):
  """Rows of windows, so many at once, and whether each counts: the last row is filled up."""
  spare = -len(first) % at_once
  counts = np.concatenate([np.ones(len(first)), np.zeros(spare)])
  rows = lambda a: rearrange(a, '(n k) -> n k', k=at_once)
  return jnp.asarray(rows(np.pad(first, (0, spare)))), jnp.asarray(rows(counts), jnp.float32)


def _added(total: Video, part: Float['b k h w c'], first: Int[jax.Array, '']) -> Video:
  """The total with a part of its frames, from `first` on, added to it."""
  before = jax.lax.dynamic_slice_in_dim(total, first, part.shape[1], axis=1)
  return jax.lax.dynamic_update_slice_in_dim(total, before + part, first, axis=1)


def starts(frames: int, window: int, overlap: int) -> Int[np.ndarray, ' n']:
  """The first frame of every window.  One that does not fit in the video is moved back.

  ValueError unless 0 <= overlap < window <= frames.
  """
  if window < 1:
    raise UserError(f'Got a window of {window} frames; allowed is 1 or more.')
  if window > frames:
    raise UserError(f'Got a window of {window} frames; 1 to {frames} are in the video.')
  if not 0 <= overlap < window:
    raise UserError(
      f'Got an overlap of {overlap} frames; allowed is 0 to {window - 1}, as a window has {window}.'
    )
  last = frames - window
  return np.array([*range(0, last, window - overlap), last])


def weights(window: int, overlap: int) -> HostFloat[np.ndarray, ' k']:
  """W^2 of a window: rising evenly over its first `overlap` frames, falling over the last."""
  from_edge = 1 + np.minimum(np.arange(window), np.arange(window)[::-1])
  return np.minimum(from_edge / (overlap + 1), 1)


def coverage(frames: int, window: int, overlap: int) -> HostFloat[np.ndarray, ' t']:
  """The weights of all windows together, in each frame: above zero."""
  total = np.zeros(frames)
  for first in starts(frames, window, overlap):
    total[first : first + window] += weights(window, overlap)
  return total
