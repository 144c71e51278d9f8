"""Temporal MultiDiffusion (Lumiere, Sec. 3.2; Bar-Tal et al., 2023): one long video from windows.

A network that processes few frames at a time generates a video of any length without seams, if at
every step its predictions for overlapping windows are merged to the video closest to all of them,

  argmin_J  sum_i || W (J_(i) - Phi(J_(i))) ||^2,

where J_(i) are the frames in window i.  The solution for a frame is the mean of the predictions of
all windows that contain it, weighted by W^2.  The weights rise linearly over the frames shared with
the previous window, and fall over those shared with the next one.  With equal weights, the video
would jump at both ends of an overlap, by half of the difference between the two predictions.  All
windows are cut from one noisy video, so that they have the same noise in the frames they share.
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
  """A denoiser of videos of any length, whose predictions are weighted means over windows.

  window, overlap: the number of frames of a window, and the number shared with the next one.  A
    video that is not longer than a window is one window; a single frame is denoised directly.
  at_once: the number of windows denoised together; memory grows with it.
  sharding: the sharding of the first axis of a batch of windows.
  learned: whether to merge the channels of a learned variance too, and not drop them.

  The videos in a condition are cut like the video itself; its other fields are the same for every
  window.  The ValueErrors are those of `starts`.
  """
  if at_once < 1:
    raise UserError(f'Got {at_once} windows at once; allowed is 1 or more.')
  starts(window, window, overlap)  # raises its errors before there is a video

  shard = lambda x: jax.lax.with_sharding_constraint(x, sharding) if sharding else x

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
      return shard(rearrange(jax.vmap(cut)(first), 'k b t ... -> (k b) t ...'))

    def add(total, chunk):
      first, counts = chunk
      conds = jax.tree.map(lambda a: repeat(a, 'b ... -> (k b) ...', k=at_once), cond_of_all)
      conds = conds.replace(**{k: windows(video, first) for k, video in cond.videos.items()})
      x0 = shard(denoiser(windows(xt, first), repeat(t, 'b -> (k b)', k=at_once), conds))
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
  """Starts of windows in chunks of `at_once`, and weights, which are 0 where a chunk is padded."""
  spare = -len(first) % at_once
  counts = np.concatenate([np.ones(len(first)), np.zeros(spare)])
  rows = lambda a: rearrange(a, '(n k) -> n k', k=at_once)
  return jnp.asarray(rows(np.pad(first, (0, spare)))), jnp.asarray(rows(counts), jnp.float32)


def _added(total: Video, part: Float['b k h w c'], first: Int[jax.Array, '']) -> Video:
  """The total, with `part` added to its frames from `first` on."""
  before = jax.lax.dynamic_slice_in_dim(total, first, part.shape[1], axis=1)
  return jax.lax.dynamic_update_slice_in_dim(total, before + part, first, axis=1)


def starts(frames: int, window: int, overlap: int) -> Int[np.ndarray, ' n']:
  """The first frame of every window.  The last window is moved back to end with the video.

  ValueError unless 0 <= overlap < window <= frames.
  """
  if window < 1:
    raise UserError(f'Got a window of {window} frames; allowed is 1 or more.')
  if window > frames:
    raise UserError(
      f'Got a window of {window} frames; allowed is 1 to {frames}, the length of the video.'
    )
  if not 0 <= overlap < window:
    raise UserError(
      f'Got an overlap of {overlap} frames; allowed is 0 to {window - 1}, as a window has {window}.'
    )
  last = frames - window
  return np.array([*range(0, last, window - overlap), last])


def weights(window: int, overlap: int) -> HostFloat[np.ndarray, ' k']:
  """W^2 of a window: it rises linearly over the first `overlap` frames, and falls over the last."""
  from_edge = 1 + np.minimum(np.arange(window), np.arange(window)[::-1])
  return np.minimum(from_edge / (overlap + 1), 1)


def coverage(frames: int, window: int, overlap: int) -> HostFloat[np.ndarray, ' t']:
  """The sum of the weights of all windows in each frame, which is above zero."""
  total = np.zeros(frames)
  for first in starts(frames, window, overlap):
    total[first : first + window] += weights(window, overlap)
  return total
