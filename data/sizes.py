"""The sizes of a dataset's clips, which are recorded so that no clip is enlarged for training.

A model that is trained on enlarged clips learns to generate blurred videos.  Sizes are those of the
frames as they are shown: upright, with square pixels.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from core.errors import UserError
from core.frame_size import Size, largest_side

Records = range | Int[np.ndarray, '_']  # indices of records

FILE = 'sizes.npz'  # for each split, the height and width of every record, in order


def write(directory: pathlib.Path, sizes: Mapping[str, Int[np.ndarray, 'n 2']]) -> None:
  """Writes the height and width of each record, by split, to the folder of a dataset."""
  np.savez_compressed(directory / FILE, **sizes)


def recorded(directory: str, file: str, split: str, count: int, what: str) -> np.ndarray:
  """What is recorded of each of the `count` records of a split: an array of a file of a dataset.

  ValueError if it can't be read, or is not of as many records.
  """
  path = pathlib.Path(directory, file)
  try:
    with np.load(path) as arrays:
      values = arrays[split]
    if len(values) != count:
      raise UserError(f'it has {len(values)} {what} for {count} clips of {split!r}')
  except Exception as error:  # NumPy and zipfile raise many kinds of errors
    raise UserError(f'{path} is missing or damaged: {error}; build the dataset again.') from error
  return values


def large_enough(
  directory: str,
  metadata: Mapping,
  split: str,
  count: int,
  among: Records,
  *,
  size: Size,
  side: int,
  min_side: int,
) -> Records:
  """Of the indices `among`, those of records in which a rectangle with the aspect ratio of `size`
  has a shorter side of at least `min_side` pixels; for squares that is the record's shorter side.

  metadata: the metadata of the dataset, which include `least_height` and `least_width`.
  count: the number of records of the split.
  side: the shorter side of the rectangle of that aspect ratio which the records will be resized to
    cover.

  ValueError if one of the records is smaller than `side`, if there is none, if the sizes can't be
  read, or if the dataset was built before sizes were recorded.
  """
  if 'least_height' not in metadata:
    raise UserError(
      f'{directory} was built by an earlier version, which did not record the sizes of its clips; '
      'build it again with data.builder.'
    )
  smallest = largest_side(metadata['least_height'], metadata['least_width'], size)
  if smallest >= max(side, min_side):  # as usual: the file of sizes is not needed
    return among
  records = np.asarray(among)
  sides = largest_side(*recorded(directory, FILE, split, count, 'sizes')[records].T, size)
  long = ' that are long enough' if len(records) < count else ''
  return at_least(
    sides, records, f'clips of {directory} ({split}){long}', side=side, min_side=min_side
  )


def at_least(
  sides: Int[np.ndarray, ' n'],
  records: Int[np.ndarray, ' n'],
  name: str,
  *,
  side: int,
  min_side: int,
) -> Int[np.ndarray, ' m']:
  """Those of `records`, with these shorter sides in pixels, that have `min_side` or more.

  name: what they are, in the ValueErrors of `large_enough`.
  """
  clips = f'of the {len(records)} {name}'
  if sides.max() < max(side, min_side):
    raise UserError(
      f'Got a shorter side of {max(side, min_side)} pixels; none {clips} is as large: allowed are '
      f'1..{sides.max()}.'
    )
  sides, records = sides[sides >= min_side], records[sides >= min_side]
  small = sides < side
  if small.any():
    raise UserError(
      f'Got a shorter side of {side} pixels; {small.sum()} {clips} would be enlarged to it, the '
      f'smallest from {sides.min()}: data.min_side={side} leaves them out.'
    )
  return records
