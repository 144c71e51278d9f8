"""The order in which the parts of a data source are read.

It is a function of the number of a batch alone, and is computed without reading data: the same for
any number of processes, and a run resumes at any batch at once.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from data.parts import Part


def turns(shares: Sequence[int | Fraction], count: int) -> list[int]:
  """How many of the first `count` turns each share has, if the shares take turns as evenly as
  possible.

  Every number is within len(shares) / 2 of its share of `count`, and one of them is larger by one
  with every turn: the first share takes its rounded share of the turns, the second one that of the
  others, and so on.
  """
  numbers, rest = [], sum(shares)
  for share in shares:
    numbers.append((2 * count * share + rest) // (2 * rest))
    count, rest = count - numbers[-1], rest - share
  return numbers


def bucket_shares(parts: Sequence[Part]) -> Mapping[int, Fraction]:
  """The share of each bucket in the batches; the shares sum to 1."""
  total = sum(part.share for part in parts)
  return {
    bucket: sum(part.share for part in parts if part.bucket == bucket) / total
    for bucket in sorted({part.bucket for part in parts})
  }


@dataclasses.dataclass(frozen=True)
class Order:
  """In which order the rows of batches are read from the parts of a source.

  Buckets take turns, and in each bucket its parts do; a turn of a bucket is a batch, and that of a
  part is a row.  The numbers of turns are as `turns` says.
  """

  batch: int  # rows
  members: Sequence[Sequence[int]]  # of each bucket, the indices of its parts
  shares: Sequence[Sequence[int]]  # of these parts

  @classmethod
  def from_parts(cls, parts: Sequence[Part], batch: int) -> 'Order':
    """The order of these parts, in batches of so many rows."""
    unit = math.lcm(*(part.share.denominator for part in parts))
    members = [
      [i for i, part in enumerate(parts) if part.bucket == b] for b in bucket_shares(parts)
    ]
    return cls(batch, members, [[int(parts[i].share * unit) for i in each] for each in members])

  def locate(self, number: int, row: int) -> tuple[int, int]:
    """The index of the part that this row of a batch is of, and its place in the endless sequence
    of that part's examples.

    Batch after batch and row after row, each part is read in the order of its sequence, without
    gaps.
    """
    bucket, batches = _turn([sum(shares) for shares in self.shares], number)
    member, place = _turn(self.shares[bucket], batches * self.batch + row)
    return self.members[bucket][member], place


def _turn(shares: Sequence[int], number: int) -> tuple[int, int]:
  """Whose turn it is, and how many turns it has had before."""
  if len(shares) == 1:
    return 0, number
  before, after = turns(shares, number), turns(shares, number + 1)
  index = next(i for i, had in enumerate(before) if after[i] > had)
  return index, before[index]
