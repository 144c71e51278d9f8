"""How steady clips of moving shapes are: their outlines, their paths and their backgrounds.

They are averages over frames.  The judge of a whole clip does not see them.  A clip that the
dataset renders has an overlap of 1, a jitter of up to 0.11 pixels, as pixels are rounded, and a
flicker of 0.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import UInt8

from evaluation.shapes.judge import coverage

NAMES = ('overlap', 'jitter', 'flicker')

_NEAR = 3  # pixels from the shape, to which its edge may blur
_TURNS = np.linspace(0.8, 1.7, 91)  # of a spinning shape in a clip, in either direction
_BOUNCES = np.linspace(1.8, 3.2, 141)


def steadiness(video: UInt8[np.ndarray, 't h w 3'], motion: str) -> dict[str, float]:
  """How steady a clip is whose frames span the five seconds of a clip.

  motion: the one that the caption says, whose path is fitted.

  The numbers are NaN where they do not apply to the motion, where there is no shape, and for a
  single frame.

  overlap: the mean intersection over union of the shape with itself in the next frame, if it
    stands still.
  jitter: the root mean square distance of the centre of the shape from the path of its motion that
    fits best, in pixels, if it moves.
  flicker: the mean absolute change of the background from frame to frame, in levels of 255.
  """
  measured = dict.fromkeys(NAMES, np.nan)
  cover = coverage(video)
  if cover is None or len(video) < 2:
    return measured
  measured['flicker'] = _flicker(video, cover)
  if motion == 'standing still':
    return measured | {'overlap': _overlap(cover)}
  return measured | {'jitter': _jitter(cover, motion)}


def means(measured: Iterable[Mapping]) -> dict[str, float]:
  """The means over the clips to which each number applies; NaN where it applies to none."""
  measured = list(measured)
  numbers = {name: [m[name] for m in measured if np.isfinite(m[name])] for name in NAMES}
  return {name: float(np.mean(those)) if those else np.nan for name, those in numbers.items()}


def _overlap(cover) -> float:
  now, after = cover[:-1], cover[1:]
  union = np.maximum(now, after).sum((1, 2))
  return float(np.mean(np.minimum(now, after).sum((1, 2)) / np.maximum(union, 1e-6)))


def _jitter(cover, motion) -> float:
  _, h, w = cover.shape
  area = cover.sum((1, 2))
  if (area <= 0.05 * np.median(area)).any():
    return np.nan  # the shape is not in all frames
  centre = np.stack([cover.sum(1) @ np.arange(w), cover.sum(2) @ np.arange(h)], -1) / area[:, None]
  return float(min(_distance(centre, basis) for basis in _paths(motion, len(cover))))


def _paths(motion: str, frames: int):
  """Bases for least squares, `t k`: a path of this motion is linear in one, for each frequency."""
  u = np.arange(frames) / frames
  one = np.ones(frames)
  match motion.split():
    case 'moving', _:
      yield np.stack([one, u], -1)
    case ['spinning']:
      for turns in _TURNS:
        yield np.stack([one, np.cos(2 * np.pi * turns * u), np.sin(2 * np.pi * turns * u)], -1)
    case ['bouncing']:
      for bounces in _BOUNCES:
        hop = bounces * u % 1
        yield np.stack([one, hop * (1 - hop)], -1)
    case _:
      yield one[:, None]


def _distance(centre, basis) -> float:
  weights, *_ = np.linalg.lstsq(basis, centre, rcond=None)
  return np.sqrt(np.square(centre - basis @ weights).sum(-1).mean())


def _flicker(video, cover) -> float:
  shape = cover > 0
  for _ in range(_NEAR):  # its neighbours join
    padded = np.pad(shape, ((0, 0), (1, 1), (1, 1)))
    shape = (
      padded[:, :-2, 1:-1]
      | padded[:, 2:, 1:-1]
      | padded[:, 1:-1, :-2]
      | padded[:, 1:-1, 2:]
      | shape
    )
  outside = ~(shape[:-1] | shape[1:])
  change = np.abs(np.diff(video.astype(np.float32), axis=0)).mean(-1)
  return float(change[outside].mean()) if outside.any() else np.nan
