"""The allowed range of every number in a config; a run refuses others before it does any work.

Conditions on several keys together, or on a key and the data, are checked by the functions that
take them.
"""

import math
import numbers
from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from core.errors import UserError
from core.frame_size import height_width

POSITIVE = math.ulp(0.0)  # the smallest number above 0
BELOW_ONE = math.nextafter(1, 0)
LARGEST = 2**31 - 1  # counters on devices are int32
COUNT = (1, LARGEST)

# The least and the greatest value of a key, or of each of its numbers if it is a tuple.
RANGES = {
  'seed': (0, 2**32 - 1),
  'schedule.shift': (-LARGEST, LARGEST),
  'model.channels': COUNT,
  'model.groups': COUNT,
  'model.head_features': COUNT,
  'model.out_channels': COUNT,
  'model.patch': COUNT,
  'model.pool_heads': COUNT,
  'model.temporal_strides': COUNT,
  'text.tokens': COUNT,
  'text.width': COUNT,
  'data.size': COUNT,
  'data.frames': COUNT,
  'data.fps': (POSITIVE, LARGEST),
  'degrade.factor': (2, LARGEST),
  'degrade.level': (0, 1),
  'loader.batch': COUNT,
  'loader.workers': (-1, LARGEST),
  'optim.b1': (0, BELOW_ONE),
  'optim.b2': (0, BELOW_ONE),
  'optim.clip': (POSITIVE, LARGEST),
  'ema_decay': (0, BELOW_ONE),
  'drop_text': (0, 1),
  'accumulate': COUNT,
  'high_noise': (POSITIVE, LARGEST),
  'log_snr.mean': (-20, 30),
  'sampling.steps': COUNT,
  'sampling.window': COUNT,
  'sampling.at_once': COUNT,
  'sampling.aug_level': (0, 1),
  'evaluate_batch': COUNT,
  'evaluate_clips': COUNT,
  'evaluate_times': COUNT,
  'keep': COUNT,
  'scores.videos': COUNT,
  'scores.stride': COUNT,
  'scores.splits': COUNT,
  'scores.batch': COUNT,
  'guard.abort_after': COUNT,
}
OTHERS = (0, LARGEST)


def require_in_range(config: ConfigDict) -> None:
  """Raises ValueError for the first number of a config that is out of its range."""
  for key, value in _flat(config.to_dict(), ''):
    if key in ('data.buckets', 'data.mixture'):  # tuples of tuples, which `data` checks
      continue
    several = isinstance(value, tuple | list)
    values = [n for n in (value if several else (value,)) if isinstance(n, numbers.Real)]
    least, most = RANGES.get(key, OTHERS)
    wrong = not all(least <= n <= most for n in values)  # true for NaN, too
    if several and (values or key in RANGES):  # a size for each level
      wrong |= not value or not all(isinstance(n, int) for n in value)
    if wrong:
      each = ' one whole number or more, each' if several else ''
      raise UserError(f'Got {key}={value}; allowed is{each} {_in_words(least, most)}.')
    if key == 'data.size':
      height_width(value)


def _flat(config: Mapping, head: str) -> Iterator[tuple[str, object]]:
  for key, value in config.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{head}{key}.')
    else:
      yield head + key, value


def _in_words(least: int | float, most: int | float) -> str:
  if most == LARGEST and least >= 0:
    return 'more than 0' if least == POSITIVE else f'{least} or more'
  return f'{least} to less than 1' if most == BELOW_ONE else f'{least} to {most}'
