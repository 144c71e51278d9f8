"""Which clips are trained on, and which are held out to validate: by source video.

Clips that were cut from one video look alike.  If some were trained on and others held out, the
loss of those held out would be too low.
"""

import collections
import hashlib
from collections.abc import Mapping, Sequence

from core.errors import UserError


def assigned(splits: Sequence[str | None], sources: Sequence[str], validation: float) -> list[str]:
  """The split of each clip, from the one that its caption gives, if any, and its source video.

  A clip without a split of its own has that of another clip of its source.  The other sources are
  'validation' for about this fraction of them, which a hash of their names chooses, so that a
  source stays where it is when others come or go; at least one is, and one is not.  The rest is
  'train'.

  ValueError where no clip can be held out.
  """
  given = {}
  for split, source in zip(splits, sources, strict=True):
    if split:
      given.setdefault(source, split)
  held_out = _held_out({*sources} - given.keys(), validation) if validation else set()
  if validation and not held_out and 'validation' not in given.values():
    raise UserError(
      f'Got --validation={validation:g}, but at least two source videos without a split of their '
      f'own are needed to hold one out; got {len({*sources} - given.keys())}.'
    )
  return [
    split or given.get(source) or ('validation' if source in held_out else 'train')
    for split, source in zip(splits, sources)
  ]


def most(splits: Sequence[str | None], validation: float) -> dict[str, int]:
  """The most clips that splits can have, as far as captions say it: by the splits that they name.

  If they name none, half of the clips for the smaller of two, where a part is to be held out.
  """
  named = collections.Counter(splits)
  free = named.pop(None, 0)
  if not named:
    return {'validation': max(free // 2, 1)} if validation else {'train': free}
  return {split: count + free for split, count in named.items()}


def require_clips(shards: int | None, of: Mapping[str, int]) -> None:
  """Raises ValueError where a split is to have more shards than clips, whose number `of` has."""
  split, fewest = min(of.items(), key=lambda x: x[1])
  if shards and shards > fewest:
    raise UserError(
      f'Got {shards} shards; {split!r} has no more than {fewest} clips: 1..{fewest} are allowed.'
    )


def straddling(splits: Sequence[str], sources: Sequence[str]) -> list[int]:
  """The numbers of the clips whose source is in several splits, as only captions can say."""
  of = collections.defaultdict(set)
  for split, source in zip(splits, sources, strict=True):
    of[source].add(split)
  return [i for i, source in enumerate(sources) if len(of[source]) > 1]


def _held_out(sources: set[str], validation: float) -> set[str]:
  ordered = sorted(sources, key=_place)
  count = sum(_place(source) < validation for source in ordered)
  return set(ordered[: min(max(count, 1), len(ordered) - 1)]) if ordered else set()


def _place(source: str) -> float:
  """A number from 0 to 1, uniformly distributed over sources."""
  digest = hashlib.sha256(source.encode('utf-8', 'surrogatepass')).digest()
  return int.from_bytes(digest[:8]) / 2**64
