"""Buckets: the shapes of the videos of a run, of which every batch has one."""

import numbers
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from core.errors import UserError
from core.frame_size import Size, height_width, largest_side
from data import lengths, sizes

Bucket = tuple[int, int, int]  # t h w


def shapes(buckets: Sequence, *, size: Size, frames: int) -> list[Bucket]:
  """The frames, height and width of the videos of each bucket.

  buckets: `data.buckets` of a config; without any, all videos have this size and so many frames.

  UserError unless each is three whole numbers, each 1 or more, and none is there twice.
  """
  if not buckets:
    return [(frames, *height_width(size))]
  whole = lambda n: isinstance(n, numbers.Integral) and n >= 1
  listed = [tuple(b) if isinstance(b, tuple | list) else (b,) for b in buckets]
  if not all(len(b) == 3 and all(map(whole, b)) for b in listed) or len({*listed}) < len(listed):
    raise UserError(
      f'Got data.buckets={tuple(buckets)}; allowed are different shapes (frames, height, width), '
      'each number 1 or more, as in ((80, 72, 128), (1, 128, 72)).'
    )
  return listed


def of_records(
  directory: str,
  split: str,
  count: int,
  among: sizes.Records,
  buckets: Sequence[Bucket],
  *,
  sides: Sequence[int],
  min_side: int,
  fps: float,
) -> list[Int[np.ndarray, ' _']]:
  """The indices of the records of each bucket, of those `among` the `count` records of a split.

  among: the records that have the frames of the shortest bucket or more.
  sides: for each bucket, the shorter side of the rectangle of its aspect ratio which the records
    will be resized to cover.
  min_side: records in which no rectangle of the aspect ratio of their bucket has a shorter side of
    so many pixels are left out.

  ValueError if a record would be enlarged, if none is left, or if the sizes and lengths of records
  can't be read.
  """
  among = np.asarray(among)
  shapes = sizes.recorded(directory, sizes.FILE, split, count, 'sizes')[among]
  frames = lengths.available(directory, split, count, fps=fps)[among]
  needed = [max(side, min_side) for side in sides]
  chosen, result = best(buckets, needed, shapes, frames), []
  for index, (t, h, w) in enumerate(buckets):
    records = among[chosen == index]
    largest = largest_side(*shapes[chosen == index].T, (h, w))
    if (largest >= min_side).any():
      name = f'clips of {directory} ({split}) in the bucket {t}x{h}x{w}'
      options = dict(side=sides[index], min_side=min_side)
      result.append(sizes.at_least(largest, records, name, **options))
    else:
      result.append(records[:0])
  if not sum(map(len, result)):
    raise UserError(
      f'Got data.min_side={min_side}; none of the {len(among)} clips of {directory} ({split}) is '
      'as large in its bucket.'
    )
  return result


def best(
  buckets: Sequence[Bucket],
  sides: Sequence[int],
  shapes: Int[np.ndarray, 'n 2'],
  frames: Int[np.ndarray, ' n'],
) -> Int[np.ndarray, ' n']:
  """The index of the bucket that fits each clip best.

  sides: for each bucket, the shorter side that a rectangle of its aspect ratio must have in a clip,
    so that no clip is enlarged.
  shapes: the height and width of each clip.
  frames: how many frames each clip has at the rate of the run.

  Of the buckets that a clip can fill it is one with the most frames; of these, one whose aspect
  ratio differs by the least factor from that of the clip; of these, the one with the most pixels.
  A clip that is too small for all of them is in the one of that aspect ratio with the fewest.
  """
  height, width = shapes.T
  chosen, least = np.zeros(len(shapes), int), None
  for index, (t, h, w) in enumerate(buckets):
    fits = largest_side(height, width, (h, w)) >= sides[index]
    keys = [
      frames < t,
      ~fits,
      np.full(len(shapes), -t),
      np.abs(np.log(height / width) - np.log(h / w)),
      np.where(fits, -h * w, h * w),
    ]
    if least is None:
      least = keys
      continue
    better = _before(keys, least)
    chosen[better] = index
    least = [np.where(better, new, old) for new, old in zip(keys, least)]
  return chosen


def _before(keys: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
  """Where the keys come before the others, if the first that differ decide."""
  before, equal = np.zeros(len(keys[0]), bool), np.ones(len(keys[0]), bool)
  for key, other in zip(keys, others, strict=True):
    before |= equal & (key < other)
    equal &= key == other
  return before
