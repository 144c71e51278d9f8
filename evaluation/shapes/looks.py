"""Classifies the look of a clip, by the histogram of its colours."""

import functools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from data import synthetic

PLAIN = 'plain'  # the look of moving shapes without a style

_LEVELS = 6  # bins of the histogram for each channel
_PLAIN_CLIPS = 200  # the number of clips whose colours are the plain look


def nearest(
  clip: UInt8[np.ndarray, 't h w 3'], references: Mapping[str, UInt8[np.ndarray, '... 3']]
) -> str:
  """The name of the reference whose colours are nearest to the clip's, or `PLAIN`."""
  looks = {name: colours(pixels) for name, pixels in references.items()}
  looks[PLAIN] = _plain()
  histogram = colours(clip)
  # The Hellinger distance, in which rare colours count too.
  return min(looks, key=lambda name: np.linalg.norm(looks[name] - histogram))


def colours(pixels: UInt8[np.ndarray, '... 3']) -> Float[np.ndarray, ' k']:
  """The square roots of a soft histogram of colours."""
  positions = pixels.reshape(-1, 3) / 255 * (_LEVELS - 1)
  low = np.minimum(positions.astype(int), _LEVELS - 2)
  fraction = positions - low
  histogram = np.zeros((_LEVELS,) * 3)
  for corner in np.ndindex(2, 2, 2):
    weight = np.where(corner, fraction, 1 - fraction).prod(-1)
    np.add.at(histogram, tuple((low + corner).T), weight)
  return np.sqrt(histogram.ravel() / len(positions))


@functools.cache
def _plain():
  clips = (synthetic.clip(i, size=32, frames=4, fps=1) for i in range(_PLAIN_CLIPS))
  return colours(np.stack([clip['video'] for clip in clips]))
