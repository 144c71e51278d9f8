"""Which of several looks a clip has, by its colours alone."""

import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from data import synthetic

PLAIN = 'plain'  # the look of moving shapes as they are drawn

_LEVELS = 6  # of each channel, in the histogram
_DRAWN = 200  # clips that say how moving shapes look


def nearest(
  clip: UInt8[np.ndarray, 't h w 3'], references: Mapping[str, UInt8[np.ndarray, '... 3']]
) -> str:
  """The name of the reference whose colours are nearest to the clip's, or `PLAIN`."""
  looks = {name: colours(pixels) for name, pixels in references.items()}
  looks[PLAIN] = _plain()
  of = colours(clip)
  # Hellinger's distance: colours that are rare count too.
  return min(looks, key=lambda name: np.linalg.norm(looks[name] - of))


def colours(pixels: UInt8[np.ndarray, '... 3']) -> Float[np.ndarray, ' k']:
  """The square root of the share of each colour, by a soft histogram."""
  place = pixels.reshape(-1, 3) / 255 * (_LEVELS - 1)
  low = np.minimum(place.astype(int), _LEVELS - 2)
  part = place - low
  shares = np.zeros((_LEVELS,) * 3)
  for corner in np.ndindex(2, 2, 2):
    weight = np.where(corner, part, 1 - part).prod(-1)
    np.add.at(shares, tuple((low + corner).T), weight)
  return np.sqrt(shares.ravel() / len(place))


@functools.cache
def _plain():
  clips = (synthetic.clip(i, size=32, frames=4, fps=1) for i in range(_DRAWN))
  return colours(np.stack([clip['video'] for clip in clips]))
