"""A video in a few numbers for each frame, from which scene cuts, scores and duplicates are found.

Frames are reduced to `SIDE` x `SIDE` pixels, whatever their shape, and numbers are computed with
integers, so that they are equal on every machine whose FFmpeg reduces frames equally.  Levels are
those of pixels, 0 to 255.
"""

import dataclasses
import pathlib

import numpy as np
from av.video.reformatter import Interpolation
from jaxtyping import Float, Int, UInt8

from data import colours, decode, duplicates
from data.timing import SLACK, Frame

SIDE = 64  # pixels
CELLS = 16  # along each side of a frame
BRIGHT = 32  # a pixel with a channel of this level or more is not black

Reduced = UInt8[np.ndarray, 'side side 3']


@dataclasses.dataclass(frozen=True)
class Trace:
  """Numbers for every frame (`n`), and for the frames shown at the times `k / fps` (`k`)."""

  times: Float[np.ndarray, ' n']  # in seconds from the first frame
  differences: Float[np.ndarray, ' n']  # of cells to the frame before: mean, in levels
  motion: Float[np.ndarray, ' k']  # mean absolute difference of pixels to the time before
  change: Float[np.ndarray, ' k']  # the same, in the cell where it is largest
  bright: Float[np.ndarray, ' k']  # share of the pixels with a channel of `BRIGHT` or more
  hashes: Int[np.ndarray, 'k bits']  # 0 and 1, or -1 for a frame without structure


def follow(file: pathlib.Path, fps: float) -> tuple[decode.Facts, Trace]:
  """The facts about a file and its trace, from decoding it once; the errors are those of `decode`.

  Two frames are in memory at a time.
  """
  times, differences, samples = [], [], []
  before = shown = sampled = None

  def sample(until: float) -> None:
    """Adds the frame that is shown, for each time `k / fps` before `until`."""
    nonlocal sampled
    while shown is not None and len(samples) / fps < until - SLACK:
      samples.append(_sample(shown, sampled))
      sampled = shown

  def see(frame: Frame) -> None:
    nonlocal before, shown
    sample(frame.time)
    shown = _reduced(frame)
    cells = _cells(shown)
    times.append(frame.time)
    differences.append(0.0 if before is None else float(np.abs(cells - before).mean()) / _PIXELS)
    before = cells

  facts = decode.probe(file, see)
  sample(facts.seconds)
  columns = list(zip(*samples)) or [()] * 4
  motion, change, bright = (np.array(column, np.float64) for column in columns[:3])
  hashes = np.array(columns[3], np.int8).reshape(len(samples), duplicates.BITS)
  return facts, Trace(np.array(times), np.array(differences), motion, change, bright, hashes)


_PIXELS = (SIDE // CELLS) ** 2  # in a cell


def _reduced(frame: Frame) -> Reduced:
  return colours.rgb(frame.image, SIDE, SIDE, Interpolation.AREA)


def _cells(pixels: np.ndarray) -> Int[np.ndarray, 'cells cells c']:
  """The sum of the pixels of each cell."""
  side = SIDE // CELLS
  return pixels.reshape(CELLS, side, CELLS, side, -1).sum((1, 3), dtype=np.int64)


def _sample(pixels: Reduced, before: Reduced | None) -> tuple:
  previous = pixels if before is None else before
  # A plain difference of unsigned integers would wrap around.
  difference = np.maximum(pixels, previous) - np.minimum(pixels, previous)
  change = _cells(difference).sum(-1).max() / (3 * _PIXELS)
  bright = (pixels.max(-1) >= BRIGHT).mean()
  return difference.mean(), change, bright, duplicates.frame_hash(pixels)
