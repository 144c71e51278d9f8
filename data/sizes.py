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

FILE = 'sizes.npz'  # for each split, the height and width of every record, in order


def write(directory: pathlib.Path, sizes: Mapping[str, Int[np.ndarray, 'n 2']]) -> None:
  """Writes the height and width of each record, by split, to the folder of a dataset."""
  np.savez_compressed(directory / FILE, **sizes)


def large_enough(
  directory: str,
  metadata: Mapping,
  split: str,
  count: int,
  *,
  size: Size,
  side: int,
  min_side: int,
) -> range | Int[np.ndarray, ' n']:
  """The indices of the records in which a rectangle with the aspect ratio of `size` has a shorter
  side of at least `min_side` pixels; for squares that is the shorter side of the record.

  metadata: the metadata of the dataset, which include `least_height` and `least_width`.
  count: the number of records of the split.
  side: the shorter side of the rectangle of that aspect ratio which the records will be resized to
    cover.

  ValueError if one of the records is smaller than `side`, if there is none, if the sizes can't be
  read, or if the dataset was built before sizes were recorded.
  """
  if min_side < 0:
    raise UserError(f'Got data.min_side={min_side}; 0 or more is allowed.')
  if 'least_height' not in metadata:
    raise UserError(
      f'{directory} was built by an earlier version, which did not record the sizes of its clips; '
      'build it again with data.builder.'
    )
  smallest = largest_side(metadata['least_height'], metadata['least_width'], size)
  if smallest >= max(side, min_side):  # as usual: the file of sizes is not needed
    return range(count)
  path = pathlib.Path(directory, FILE)
  try:
    with np.load(path) as sizes:
      sides = largest_side(*sizes[split].T, size)
    if len(sides) != count:
      raise UserError(f'it has {len(sides)} sizes for {count} clips of {split!r}')
  except Exception as error:  # NumPy and zipfile raise many kinds of errors
    raise UserError(f'{path} is missing or damaged: {error}.') from error
  clips = f'of the {count} clips of {directory} ({split})'
  if sides.max() < max(side, min_side):
    raise UserError(
      f'Got a shorter side of {max(side, min_side)} pixels; none {clips} is as large: allowed are '
      f'1..{sides.max()}.'
    )
  indices = np.flatnonzero(sides >= min_side)
  small = sides[indices] < side
  if small.any():
    raise UserError(
      f'Got a shorter side of {side} pixels; {small.sum()} {clips} would be enlarged to it, the '
      f'smallest from {sides[indices].min()}: data.min_side={side} leaves them out.'
    )
  return indices
