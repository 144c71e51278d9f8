"""Splits of a dataset into training and validation clips, by source video.

Clips that were cut from one video look alike.  If some were trained on and others held out, the
validation loss would be too low.
"""

import collections
import hashlib
from collections.abc import Mapping, Sequence

from core.errors import UserError


def assign(splits: Sequence[str | None], sources: Sequence[str], validation: float) -> list[str]:
  """The split of each clip, from `splits` where it is not None, or else by its source video.

  A clip whose own split is None takes the split of another clip of its source, if there is one.  Of
  the other sources, about the fraction `validation` is 'validation' and the rest is 'train'; at
  least one source is in each.  A hash of its name decides, so that a source keeps its split when
  other sources are added or removed.

  ValueError if no source can be held out.
  """
  stated = {}
  for split, source in zip(splits, sources, strict=True):
    if split:
      stated.setdefault(source, split)
  held_out = _held_out({*sources} - stated.keys(), validation) if validation else set()
  if validation and not held_out and 'validation' not in stated.values():
    raise UserError(
      f'Got --validation={validation:g}, but to hold one out, at least two source videos without a '
      f'"split" in the captions are needed; got {len({*sources} - stated.keys())}.'
    )
  return [
    split or stated.get(source) or ('validation' if source in held_out else 'train')
    for split, source in zip(splits, sources)
  ]


def max_clips(splits: Sequence[str | None], validation: float) -> dict[str, int]:
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


def in_several_splits(splits: Sequence[str], sources: Sequence[str]) -> list[int]:
  """The indices of clips whose source is in several splits, which only captions can cause."""
  by_source = collections.defaultdict(set)
  for split, source in zip(splits, sources, strict=True):
    by_source[source].add(split)
  return [i for i, source in enumerate(sources) if len(by_source[source]) > 1]


def _held_out(sources: set[str], validation: float) -> set[str]:
  ordered = sorted(sources, key=_hashed)
  count = sum(_hashed(source) < validation for source in ordered)
  return set(ordered[: min(max(count, 1), len(ordered) - 1)]) if ordered else set()


def _hashed(source: str) -> float:
  """A number from 0 to 1, uniformly distributed over sources."""
  digest = hashlib.sha256(source.encode('utf-8', 'surrogatepass')).digest()
  return int.from_bytes(digest[:8]) / 2**64
