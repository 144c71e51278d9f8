"""How a clip moves, by its pixels alone and without optical flow.

A clip is read once, frame by frame, into a `Trace`: what each cell of a grid shows, and by how much
it changes.  All measures are of that.  Levels are those of pixels, from 0 to 255.  What is said of
a known clip is exact but for the rounding of pixels.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from core.errors import UserError
from core.video import Pixels

GRID = 16  # cells along each side of a frame, where it has so many pixels
STILL = 1.0  # level: a frame in which no cell changes by more, on average, is shown again
FLOOR = 0.5  # level by which cells' means differ at least: less is noise
ALIKE = (
  0.25  # of the largest squared difference up to a lag: that of frames a period apart, at most
)
FEWEST = 3  # frames


@dataclasses.dataclass(frozen=True)
class Trace:
  """What is kept of a clip."""

  cells: Float[np.ndarray, 't n 3']  # the mean level of each cell
  changes: Float[np.ndarray, 'pairs n']  # its pixels' mean absolute difference to the next frame


def trace(frames: Iterable[UInt8[np.ndarray, 'h w 3']]) -> Trace:
  """The trace of a clip, of which two frames are held at a time; ValueError below three frames."""
  cells, changes, before = [], [], None
  for frame in frames:
    cells.append(_means(frame))
    if before is not None:
      # Unsigned numbers have no sign to lose: the larger less the smaller.
      changes.append(_means(np.maximum(frame, before) - np.minimum(frame, before)).mean(-1))
    before = frame
  if len(cells) < FEWEST:
    raise UserError(f'Got a clip of {len(cells)} frames; motion is told of {FEWEST} or more.')
  return Trace(np.stack(cells), np.stack(changes))


def motion_score(clip: Pixels, fps: float | int) -> dict[str, float]:
  """All measures of a clip by their names, each a function here; `_s` is in seconds, by `fps`.

  ValueError where the clip has less than three frames, or `fps` is not positive.
  """
  if not fps > 0:
    raise UserError(f'Got {fps} frames a second; allowed is any positive number.')
  of = trace(clip)
  longest = longest_freeze(of)
  return {
    'motion': motion(of),
    'frozen': frozen(of),
    'longest_freeze': longest / len(of.changes),
    'longest_freeze_s': longest / fps,
    'disorder': disorder(of),
    'jitter': jitter(of),
    'flicker': flicker(of),
    'loop_gap': loop_gap(of),
    'period_s': period(of) / fps,
  }


def summary(scores: Sequence[Mapping[str, float | int]]) -> dict[str, dict[str, float]]:
  """Of every measure its mean, median and quantiles over clips: `{name: {statistic: value}}`."""
  if not scores:
    raise UserError('Got no scores of clips; allowed is one or more.')
  quantiles = {'p10': 10, 'p25': 25, 'median': 50, 'p75': 75, 'p90': 90}
  found = {}
  for name in scores[0]:
    values = [score[name] for score in scores]
    at = np.percentile(values, list(quantiles.values())).tolist()
    found[name] = {'mean': float(np.mean(values)), **dict(zip(quantiles, at))}
  return found


def motion(of: Trace) -> float:
  """The mean absolute difference of adjacent frames, in levels: from 0, of a still clip, to 255, of
  one that is black and white in turns.

  It is also of an object's contrast and size, and has no direction.  Cells count alike.
  """
  return float(of.changes.mean())


def frozen(of: Trace) -> float:
  """The share of adjacent frames that are the same but for compression: 1 in a still clip.

  In 80 frames at 16 a second of a video with 12, 0.25: see `longest_freeze` for one that hangs.
  """
  return float(_still(of).mean())


def longest_freeze(of: Trace) -> int:
  """Adjacent pairs of the same frame, but for compression, in the longest run of them.

  All of a still clip; n - 1 where one frame is shown n times and nothing else stands still.
  """
  runs = [len(list(run)) for still, run in itertools.groupby(_still(of)) if still]
  return max(runs, default=0)


def disorder(of: Trace) -> float:
  """The mean squared difference of adjacent frames over that of any two: 0 where a clip is still,
  1 on the average over all orders of its frames, and below 2, to which two come that alternate.

  It is 6 / (t (t + 1)) where t frames change evenly.  Half the ratio of von Neumann, 1941, of
  frames divided by their brightness, so that a light for all the frame counts for nothing.
  """
  brightness = np.maximum(of.cells.mean((1, 2), keepdims=True), 1)
  cells = of.cells * (brightness.mean() / brightness)
  adjacent = np.square(np.diff(cells, axis=0)).mean()
  any_two = 2 * cells.var(0, ddof=1).mean()
  return float(adjacent / max(any_two, FLOOR**2))


def jitter(of: Trace) -> float:
  """The energy of what cells change by from one change to the next, over that of their changes.

  0 where a clip is still or changes evenly, about 2 where every frame is shown twice, 3 where
  frames are in an arbitrary order, and 4 where two alternate, which is the most but for the ends.
  """
  changes = np.diff(of.cells, axis=0)
  energy = np.square(changes).mean()
  return float(np.square(np.diff(changes, axis=0)).mean() / max(energy, FLOOR**2))


def flicker(of: Trace) -> float:
  """By which share a frame is brighter or darker than the (geometric) mean of its two neighbours.

  0 where a clip is still or its light changes evenly; exactly p where every second frame is
  brighter by the share p; 0.83 s where each is brighter by a share of its own, which is normal of a
  small standard deviation s.  It is the median over frames of what cells have in common: their
  median, each as heavy as it is bright, less its standard error, which says what motion explains.
  So neither a cut nor an object that passes is flicker; frames in an arbitrary order may be.
  """
  levels = of.cells.mean(-1)
  # A cell is as heavy as it is at its darkest: one into which something moves weighs nothing.
  weights = np.minimum(np.minimum(levels[:-2], levels[1:-1]), levels[2:])
  off = -np.diff(np.log(np.maximum(levels, 1)), 2, axis=0) / 2
  common = _weighted_median(off, weights)
  spread = _weighted_median(np.abs(off - common[:, None]), weights)
  cells = weights.sum(1) ** 2 / np.maximum(np.square(weights).sum(1), 1)
  # Of a normal variable: the deviation is 1.4826 medians, and a median's error 1.2533 of a mean's.
  error = 1.2533 * 1.4826 * spread / np.sqrt(np.maximum(cells, 1))
  return float(np.expm1(np.median(np.maximum(np.abs(common) - error, 0))))


def loop_gap(of: Trace) -> float:
  """How far the first frame is from the last one, in usual differences of adjacent frames.

  0 where a clip is still or ends with its first frame, about 1 where it can be shown as a loop, and
  t - 1 where t frames change evenly.  Differences are roots of mean squares, the usual one is the
  median.
  """
  rms = lambda change: np.sqrt(np.square(change).mean((-1, -2)))
  usual = np.median(rms(np.diff(of.cells, axis=0)))
  return float(rms(of.cells[-1] - of.cells[0]) / max(usual, FLOOR))


def period(of: Trace) -> int:
  """Frames after which a clip repeats itself, twice or more in all; 0 where it does not.

  Exactly p where p frames are repeated, which are not themselves alike.  The least lag, from 2 on,
  at which frames differ less than at those around it, and much less than at one before.
  """
  lags = range(1, len(of.cells) // 2 + 2)
  far = np.array([np.square(of.cells[k:] - of.cells[:-k]).mean() for k in lags])
  for i in range(1, len(far) - 1):
    most = far[:i].max()
    least = far[i] <= far[i - 1] and far[i] <= far[i + 1]
    if least and most > FLOOR**2 and far[i] <= ALIKE * most:
      return i + 1
  return 0


def _still(of: Trace) -> Bool[np.ndarray, ' pairs']:
  return of.changes.max(-1) <= STILL


def _means(frame: UInt8[np.ndarray, 'h w 3']) -> Float[np.ndarray, 'n 3']:
  """The mean of every cell."""
  rows, columns = (np.arange(min(GRID, n)) * n // min(GRID, n) for n in frame.shape[:2])
  sums = np.add.reduceat(frame, rows, axis=0, dtype=np.uint32)
  sums = np.add.reduceat(sums, columns, axis=1)
  heights, widths = (np.diff(at, append=n) for at, n in zip((rows, columns), frame.shape))
  return (sums / (heights[:, None, None] * widths[:, None])).reshape(-1, 3)


def _weighted_median(
  values: Float[np.ndarray, 't n'], weights: Float[np.ndarray, 't n']
) -> Float[np.ndarray, ' t']:
  """Of each row the value below which half of the weight lies; 0 where there is no weight."""
  order = np.argsort(values, axis=1)
  values, weights = (np.take_along_axis(x, order, axis=1) for x in (values, weights))
  below = np.cumsum(weights, axis=1)
  middle = (below < below[:, -1:] / 2).sum(1)
  return np.where(below[:, -1] > 0, values[np.arange(len(values)), middle], 0.0)
