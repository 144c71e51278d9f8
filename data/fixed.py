"""A fixed set of examples, so that their losses can be compared between steps and runs."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from core.errors import UserError
from data.order import turns
from data.parts import Part, draw, parts


class Fixed:
  """A data source of `count` examples that are evenly spaced in another source.

  An example is the same whenever it is read: its window in time and space and its mask depend only
  on its index in the other source.  The choice of examples depends on that source's length and on
  `count`, and not on the seed of a run.

  If the other source has several parts, each has its share of the examples, or all that it has if
  these are fewer.  They are `parts` here too, whose shares are their numbers.
  """

  def __init__(self, source, count: int):
    if count < 1:
      raise UserError(f'Got {count} examples to evaluate; allowed is 1 or more.')
    each = parts(source)
    counts = turns([part.share for part in each], min(count, sum(len(p.examples) for p in each)))
    self.parts: Sequence[Part] = []
    self._chosen = []
    for part, number in zip(each, counts):
      indices, first = part.examples, len(self._chosen)
      number = min(number, len(indices))
      spaced = (indices[i * len(indices) // number] for i in range(number))
      self._chosen += [(part.source, index) for index in spaced]
      here = range(first, len(self._chosen))
      if here:
        self.parts += [Part(self, here, Fraction(number), part.bucket)]

  def __len__(self) -> int:
    return len(self._chosen)

  def __getitem__(self, i) -> dict:
    """An example of the other source."""
    source, index = self._chosen[i]
    return draw(source, index, np.random.default_rng(index))
