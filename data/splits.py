"""Splits of a dataset into training and validation clips, by source video.

Clips that were cut from one video look alike.  If some were trained on and others held out, the
validation loss would be too low.
"""

import array
import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from core.errors import UserError
from data.on_disk import Table


@dataclasses.dataclass(frozen=True)
class Splits:
  """The splits of the clips of a dataset."""

  stated: Mapping[str, str]  # the first split that captions state for a clip of a source video
  conflicts: Mapping[str, str]  # for sources for which they state several, another of them
  held_out: int  # sources whose hash is below are for validation

  def split(self, split: str | None, source: str) -> str:
    """The split of a clip whose own split in the captions, or None, and source video are given.

    A clip whose own split is None takes the split of another clip of its source, if there is one.
    """
    return (
      split
      or self.stated.get(source)
      or ('validation' if _hashed(source) < self.held_out else 'train')
    )


def assigned(clips: Iterable[tuple[str | None, str]], validation: float) -> Splits:
  """The splits of clips, each given by its own split in the captions, or None, and its source.

  Of the sources without a split in the captions, about the fraction `validation` is 'validation'
  and the rest is 'train'; at least one source is in each.  A hash of its name decides, so that a
  source keeps its split when other sources are added or removed.

  Eight bytes for each clip are in memory.  ValueError if no source can be held out.
  """
  stated, conflicts, others = Table(), Table(), array.array('Q')
  for split, source in clips:
    if not split:
      others.append(_hashed(source))
    elif stated.setdefault(source, split) != split:
      conflicts[source] = split
  if not validation:
    return Splits(stated, conflicts, 0)
  named = np.fromiter((_hashed(source) for source in stated), np.uint64)
  hashes = np.setdiff1d(np.array(others, np.uint64), named)  # sorted and each once
  count = int(np.searchsorted(hashes, np.uint64(min(round(validation * 2**64), 2**64 - 1))))
  count = min(max(count, 1), len(hashes) - 1)
  if count < 1 and 'validation' not in stated.values():
    raise UserError(
      f'Got --validation={validation:g}, but to hold one out, at least two source videos without a '
      f'"split" in the captions are needed; got {len(hashes)}.'
    )
  return Splits(stated, conflicts, int(hashes[count]) if count > 0 else 0)


def max_clips(splits: Iterable[str | None], validation: float) -> dict[str, int]:
  """The largest number of clips that each split can have, before sources are assigned to splits.

  Clips whose split is None may all go to any of the splits that others name.  If no split is named
  and `validation` is not 0, the smaller of the two splits has at most half of the clips.
  """
  named = collections.Counter(splits)
  free = named.pop(None, 0)
  if not named:
    return {'validation': max(free // 2, 1)} if validation else {'train': free}
  return {split: count + free for split, count in named.items()}


def require_clips(shards: int | None, counts: Mapping[str, int]) -> None:
  """Raises ValueError if `shards` is more than the number of clips of a split in `counts`."""
  split, fewest = min(counts.items(), key=lambda x: x[1])
  if shards and shards > fewest:
    raise UserError(
      f'Got {shards} shards; {split!r} has at most {fewest} clips, so 1..{fewest} are allowed.'
    )


def _hashed(source: str) -> int:
  """A number of 64 bits, uniformly distributed over sources."""
  digest = hashlib.sha256(source.encode('utf-8', 'surrogatepass')).digest()
  return int.from_bytes(digest[:8])
