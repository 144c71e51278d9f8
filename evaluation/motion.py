"""Measures of motion in a clip, computed from its pixels without optical flow.

A clip is read once, frame by frame, into a `Trace`: the mean of each cell of a grid, and its change
from frame to frame.  All measures are computed from it.  Levels are those of pixels, 0 to 255.  The
values that docstrings state for particular clips are exact up to the rounding of pixels.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from core.errors import UserError
from core.video import Pixels

GRID = 16  # cells along each side of a frame; fewer where the side has fewer pixels
STILL = 1.0  # levels: a frame is a repeat if no cell changes by more than this
FLOOR = 0.5  # levels: smaller differences of cells are noise
# A lag is a period if its squared difference is at most this share of the largest at smaller lags.
ALIKE = 0.25
MIN_FRAMES = 3


@dataclasses.dataclass(frozen=True)
class Trace:
  """The cells of a clip over time."""

  cells: Float[np.ndarray, 't n 3']  # the mean level of each cell
  changes: Float[np.ndarray, 'pairs n']  # mean absolute difference of its pixels to the next frame


def trace(frames: Iterable[UInt8[np.ndarray, 'h w 3']]) -> Trace:
  """The trace of a clip; two frames are in memory at a time.  UserError below `MIN_FRAMES`."""
  cells, changes, previous = [], [], None
  for frame in frames:
    cells.append(_cell_means(frame))
    if previous is not None:
      # A plain difference of unsigned integers would wrap around.
      difference = np.maximum(frame, previous) - np.minimum(frame, previous)
      changes.append(_cell_means(difference).mean(-1))
    previous = frame
  if len(cells) < MIN_FRAMES:
    raise UserError(f'Got a clip of {len(cells)} frames; motion needs {MIN_FRAMES} or more.')
  return Trace(np.stack(cells), np.stack(changes))


def motion_score(clip: Pixels, fps: float | int) -> dict[str, float]:
  """All measures of a clip by name, each a function of this module; `_s` means seconds.

  UserError where the clip has fewer than `MIN_FRAMES` frames, or `fps` is not positive.
  """
  if not fps > 0:
    raise UserError(f'Got {fps} frames a second; allowed is any positive number.')
  clip_trace = trace(clip)
  longest = longest_freeze(clip_trace)
  return {
    'motion': motion(clip_trace),
    'frozen': frozen(clip_trace),
    'longest_freeze': longest / len(clip_trace.changes),
    'longest_freeze_s': longest / fps,
    'disorder': disorder(clip_trace),
    'jitter': jitter(clip_trace),
    'flicker': flicker(clip_trace),
    'loop_gap': loop_gap(clip_trace),
    'period_s': period(clip_trace) / fps,
  }


def summary(scores: Sequence[Mapping[str, float | int]]) -> dict[str, dict[str, float]]:
  """The mean, median and quantiles of each measure over clips: `{name: {statistic: value}}`."""
  if not scores:
    raise UserError('Got no scores of clips; allowed is one or more.')
  quantiles = {'p10': 10, 'p25': 25, 'median': 50, 'p75': 75, 'p90': 90}
  result = {}
  for name in scores[0]:
    values = [score[name] for score in scores]
    percentiles = np.percentile(values, list(quantiles.values())).tolist()
    result[name] = {'mean': float(np.mean(values)), **dict(zip(quantiles, percentiles))}
  return result


def motion(trace: Trace) -> float:
  """The mean absolute difference of adjacent frames, in levels; all cells have the same weight.

  It is 0 for a still clip and 255 for a clip that alternates between black and white.  It grows
  with the contrast and the size of what moves, and has no direction.
  """
  return float(trace.changes.mean())


def frozen(trace: Trace) -> float:
  """The share of adjacent frames that are equal up to compression; 1 for a still clip.

  A video of 12 frames a second that is read at 16 has 0.25; `longest_freeze` recognises a video
  that stands still for a while.
  """
  return float(_still(trace).mean())


def longest_freeze(trace: Trace) -> int:
  """The length of the longest run of adjacent pairs of frames that are equal up to compression.

  It is the number of pairs for a still clip, and n - 1 where only one frame is shown n times.
  """
  runs = [len(list(run)) for still, run in itertools.groupby(_still(trace)) if still]
  return max(runs, default=0)


def disorder(trace: Trace) -> float:
  """The mean squared difference of adjacent frames, divided by that of any two frames.

  It is 0 for a still clip, 1 on average over all orders of the frames, 6 / (t (t + 1)) for t frames
  that change evenly, and below 2, which two alternating frames approach.  It is half the ratio of
  von Neumann, 1941, of frames divided by their brightness, so that a change of light does not
  count.
  """
  brightness = np.maximum(trace.cells.mean((1, 2), keepdims=True), 1)
  cells = trace.cells * (brightness.mean() / brightness)
  adjacent = np.square(np.diff(cells, axis=0)).mean()
  any_two = 2 * cells.var(0, ddof=1).mean()
  return float(adjacent / max(any_two, FLOOR**2))


def jitter(trace: Trace) -> float:
  """The energy of the second differences of cells, divided by that of their first differences.

  It is 0 for a clip that is still or changes evenly, about 2 where every frame is shown twice, 3
  for frames in random order and 4 for two alternating frames, the maximum up to effects of the
  ends.
  """
  changes = np.diff(trace.cells, axis=0)
  energy = np.square(changes).mean()
  return float(np.square(np.diff(changes, axis=0)).mean() / max(energy, FLOOR**2))


def flicker(trace: Trace) -> float:
  """The share by which frames are brighter or darker than the geometric mean of their neighbours.

  It is 0 for a clip that is still or whose light changes evenly; p where every second frame is
  brighter by the share p; and 0.83 s where the gains of frames are normal with a small standard
  deviation s.  It is the median over frames of the change that cells have in common: their median,
  weighted by brightness, minus its standard error, which motion can explain.  Hence neither a cut
  nor a passing object is flicker, but frames in random order may be.
  """
  levels = trace.cells.mean(-1)
  # A cell weighs as much as it is bright at its darkest: what moves into it has no weight.
  weights = np.minimum(np.minimum(levels[:-2], levels[1:-1]), levels[2:])
  deviations = -np.diff(np.log(np.maximum(levels, 1)), 2, axis=0) / 2
  common = _weighted_median(deviations, weights)
  median_deviation = _weighted_median(np.abs(deviations - common[:, None]), weights)
  cells = weights.sum(1) ** 2 / np.maximum(np.square(weights).sum(1), 1)
  # For a normal variable, the standard deviation is 1.4826 times the median absolute deviation, and
  # the standard error of a median is 1.2533 times that of a mean.
  error = 1.2533 * 1.4826 * median_deviation / np.sqrt(np.maximum(cells, 1))
  return float(np.expm1(np.median(np.maximum(np.abs(common) - error, 0))))


def loop_gap(trace: Trace) -> float:
  """The difference of the last and the first frame over the median difference of adjacent frames.

  It is 0 for a clip that is still or ends with its first frame, about 1 for a clip that can be
  shown as a loop, and t - 1 for t frames that change evenly.  Differences are root mean squares.
  """
  rms = lambda change: np.sqrt(np.square(change).mean((-1, -2)))
  typical = np.median(rms(np.diff(trace.cells, axis=0)))
  return float(rms(trace.cells[-1] - trace.cells[0]) / max(typical, FLOOR))


def period(trace: Trace) -> int:
  """The number of frames after which a clip that shows them at least twice repeats; 0 without any.

  It is p where p different frames are repeated: the smallest lag, 2 or more, at which the
  difference of frames is a local minimum and much smaller than at some smaller lag.
  """
  lags = range(1, len(trace.cells) // 2 + 2)
  differences = [np.square(trace.cells[k:] - trace.cells[:-k]).mean() for k in lags]
  for i in range(1, len(differences) - 1):
    before, here, after = differences[i - 1 : i + 2]
    largest = max(differences[:i])
    if here <= before and here <= after and largest > FLOOR**2 and here <= ALIKE * largest:
      return i + 1
  return 0


def _still(trace: Trace) -> Bool[np.ndarray, ' pairs']:
  return trace.changes.max(-1) <= STILL


def _cell_means(frame: UInt8[np.ndarray, 'h w 3']) -> Float[np.ndarray, 'n 3']:
  """The mean of each cell."""
  rows, columns = (np.arange(min(GRID, n)) * n // min(GRID, n) for n in frame.shape[:2])
  sums = np.add.reduceat(frame, rows, axis=0, dtype=np.uint32)
  sums = np.add.reduceat(sums, columns, axis=1)
  heights, widths = (np.diff(x, append=n) for x, n in zip((rows, columns), frame.shape))
  return (sums / (heights[:, None, None] * widths[:, None])).reshape(-1, 3)


def _weighted_median(
  values: Float[np.ndarray, 't n'], weights: Float[np.ndarray, 't n']
) -> Float[np.ndarray, ' t']:
  """The weighted median of each row; 0 where all weights are 0."""
  order = np.argsort(values, axis=1)
  values, weights = (np.take_along_axis(x, order, axis=1) for x in (values, weights))
  cumulative = np.cumsum(weights, axis=1)
  middle = (cumulative < cumulative[:, -1:] / 2).sum(1)
  return np.where(cumulative[:, -1] > 0, values[np.arange(len(values)), middle], 0.0)
