"""Whether a video shows the windows that it was made in (Lumiere, Sec. 3.2 and Fig. 14).

Two adjacent frames are at a border unless both are in the same single window.  Windows that touch
have one such pair for each seam; those that overlap have one more for each frame they share, as the
weights of both change in all of them.
"""

import itertools

import numpy as np
from jaxtyping import Bool, Float, Shaped

from core.errors import UserError
from ssr.multidiffusion import starts


def borders(frames: int, window: int, overlap: int) -> Bool[np.ndarray, ' pairs']:
  """Of all pairs of adjacent frames, whether more than one window has a part in them.

  ValueError where there is one window alone, or where no pair is in one alone, so that there is
  nothing to compare borders with, or `starts` raises it.
  """
  if frames <= window:
    raise UserError(f'Got {frames} frames, which are in one window of {window}; allowed are more.')
  into = np.arange(frames)[:, None] - starts(frames, window, overlap)
  within = (into >= 0) & (into < window)
  at = (within[1:] | within[:-1]).sum(1) > 1
  if at.all():
    raise UserError(
      f'Got {frames} frames in windows of {window} with an overlap of {overlap}, and no two are in '
      'one window alone; allowed are a smaller overlap, larger windows or more frames.'
    )
  return at


def differences(video: Shaped[np.ndarray, 't h w c']) -> Float[np.ndarray, ' pairs']:
  """The mean squared difference of adjacent frames, in squares of the video's unit."""
  pairs = itertools.pairwise(video)
  return np.array([np.square(b.astype(np.float32) - a).mean(dtype=float) for a, b in pairs])


def ratio(found: Float[np.ndarray, 'n pairs'], at: Bool[np.ndarray, ' pairs']) -> float:
  """The mean difference of the pairs `at` borders over that of the others; 1 without seams.

  Both means are over all pairs of all videos: a ratio of every video would be one of noise to noise
  where nothing moves.  ValueError where nothing changes within a window in any of them.
  """
  inside = found[:, ~at].mean()
  if not inside > 0:
    raise UserError('Got videos in which nothing changes within a window; there is no ratio.')
  return float(found[:, at].mean() / inside)
