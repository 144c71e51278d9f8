"""The same examples each time, so that losses of them compare."""

import numpy as np

from core.errors import UserError


class Fixed:
  """A source of `count` examples of another, evenly spread over it, each of them the same whenever
  it is read: its window in time and space, and its mask, are drawn by its number there alone.

  Which they are depends on the other source's length and on `count`, not on the seed of a run.
  """

  def __init__(self, source, count: int):
    if count < 1:
      raise UserError(f'Got {count} examples to evaluate; 1 or more are allowed.')
    self._source, self._count = source, min(count, len(source))

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, i) -> dict:
    """An example of the other source."""
    number = int(i) * len(self._source) // self._count
    if hasattr(self._source, 'draw'):
      return self._source.draw(number, np.random.default_rng(number))
    return self._source[number]
