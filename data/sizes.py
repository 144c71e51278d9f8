"""How large the clips of a dataset are, so that none is enlarged unnoticed.

A clip that is resized to more pixels than it has would be taken for the truth at that size, and a
model trained on it learns to make blurred videos.  A clip is as large as it is shown: upright, with
square pixels.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from core.errors import UserError

FILE = 'sizes.npz'  # for each split, the height and width of every record, in their order


def write(directory: pathlib.Path, sizes: Mapping[str, Sequence[tuple[int, int]]]) -> None:
  """Writes the height and width of each record, by split, beside the shards of a dataset."""
  arrays = {split: np.array(of, np.int32) for split, of in sizes.items()}
  np.savez_compressed(directory / FILE, **arrays)


def least(sizes: Sequence[tuple[int, int]]) -> dict[str, int]:
  """The least height and the least width, which may be those of two clips."""
  return {
    'least_height': min(height for height, _ in sizes),
    'least_width': min(width for _, width in sizes),
  }


def large_enough(
  directory: str, metadata: Mapping, split: str, count: int, *, side: int, min_side: int
) -> range | Int[np.ndarray, ' n']:
  """The numbers of the records to read: those of a shorter side of at least `min_side` pixels.

  metadata: that of the dataset, which has what `least` says.
  count: the number of records of the split.
  side: the shorter side to which they will be resized.

  ValueError where one of them is smaller than `side`, where none is left, where the sizes can't be
  read, and for a dataset that was built before sizes were recorded.
  """
  if min_side < 0:
    raise UserError(f'Got data.min_side={min_side}; 0 or more is allowed.')
  if 'least_height' not in metadata:
    raise UserError(
      f'{directory} was built by an earlier version, which did not record the sizes of its clips; '
      'build it again with data.builder.'
    )
  smallest = min(metadata['least_height'], metadata['least_width'])
  if smallest >= max(side, min_side):  # as is usual, so that nothing else is read
    return range(count)
  path = pathlib.Path(directory, FILE)
  try:
    with np.load(path) as sizes:
      sides = sizes[split].min(1)
    if len(sides) != count:
      raise UserError(f'it has {len(sides)} sizes for the {count} clips of {split!r}')
  except Exception as error:  # NumPy and zipfile raise whatever damage leads them to
    raise UserError(f'{path} is missing or damaged: {error}.') from error
  which = f'of the {count} clips of {directory} ({split})'
  if sides.max() < max(side, min_side):
    raise UserError(
      f'Got a shorter side of {max(side, min_side)} pixels; none {which} is as large: allowed are '
      f'1..{sides.max()}.'
    )
  kept = np.flatnonzero(sides >= min_side)
  small = sides[kept] < side
  if small.any():
    raise UserError(
      f'Got a shorter side of {side} pixels; {small.sum()} {which} would be enlarged to it, the '
      f'smallest from {sides[kept].min()}: data.min_side={side} leaves them out.'
    )
  return kept
