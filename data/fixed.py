"""A fixed set of examples, so that their losses can be compared between steps and runs."""

import numpy as np

from core.errors import UserError
from data.pipeline import draw


class Fixed:
  """A data source of `count` examples that are evenly spaced in another source.

  An example is the same whenever it is read: its window in time and space and its mask depend only
  on its index in the other source.  The choice of examples depends on that source's length and on
  `count`, and not on the seed of a run.
  """

  def __init__(self, source, count: int):
    if count < 1:
      raise UserError(f'Got {count} examples to evaluate; allowed is 1 or more.')
    self._source, self._count = source, min(count, len(source))

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, i) -> dict:
    """An example of the other source."""
    index = int(i) * len(self._source) // self._count
    return draw(self._source, index, np.random.default_rng(index))
