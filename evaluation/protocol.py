"""Files of scores, each with its protocol, and the comparison of scores by their protocols.

The protocol of a score is everything that has to be equal for another score to be comparable.  The
file of a score is JSON:

    {"metric": str, "of": str, "score": {name: number}, "protocol": {key: value}, ...}

where `of` is what was scored, and further keys have a row for each video.  Names may be nested; a
table joins them with dots.  A number that is not finite is null.
"""

import dataclasses
import json
import math
import numbers
import pathlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from core import files
from core.errors import UserError
from core.folder import new_file

ABSENT = '(absent)'  # stands for the value of a key that a protocol lacks
MARK = '†'


@dataclasses.dataclass(frozen=True)
class Row:
  """One score in a table."""

  subject: str  # what was scored
  score: dict[str, object]  # numbers, or None
  protocol: dict[str, object]  # only the keys that differ within the table
  marked: bool  # whether its protocol differs from the first row's


@dataclasses.dataclass(frozen=True)
class Comparison:
  """All scores of one metric; rows with equal protocols are adjacent."""

  metric: str
  names: tuple[str, ...]  # of all numbers in the scores
  keys: tuple[str, ...]  # of the protocols, those whose values differ
  rows: tuple[Row, ...]

  @property
  def footnote(self) -> str:
    """The meaning of the mark; empty where no row is marked."""
    if not self.keys:
      return ''
    return (
      f'{MARK} has another protocol than the first row: {", ".join(self.keys)} differ.  Only rows '
      'that agree in all of these are comparable.'
    )


def print_score(result: dict, output: pathlib.Path | None) -> None:
  """Prints a score and the videos that were skipped, and writes the score to `output`, if given.

  result: what a metric of `scores.METRICS` returns.
  """
  for file, reason in result['skipped'].items():
    print(f'skipped {file}: {reason}', file=sys.stderr)
  for row in result.get('videos', ()):
    cells = (f'{k} {v:.4g}' if isinstance(v, float) else f'{k} {v}' for k, v in row.items())
    print('  '.join(cells))
  score = ', '.join(f'{name} {value:.4g}' for name, value in flatten(result['score']).items())
  print(f'{score}: {result["metric"]} of {result["protocol"]["clips"]} clips in {result["of"]}')
  if result['protocol'].get('network', {}).get('weights', '').startswith('random:'):
    print(
      f'{result["metric"]} is by random weights: it compares only with scores by the same weights, '
      'and only roughly.'
    )
  if output:
    write_score(output, **result)


def write_score(
  path: pathlib.Path,
  metric: str,
  of: str,
  score: Mapping[str, object],
  protocol: Mapping[str, object],
  **rows: object,
) -> None:
  """Writes the file of a score, with sorted keys; it appears complete or not at all.

  UserError, before anything is written, where the score is empty, one of its values is not a
  number, or a value cannot be written as JSON; OSError where the file cannot be written.
  """
  if not score:
    raise UserError(f'Got an empty score of {metric}; allowed is one number or more.')
  for name, value in flatten(score).items():
    if not isinstance(value, numbers.Real | None):
      raise UserError(f'The score {name} of {metric} is {value!r}; allowed is a number.')
  result = rows | {'metric': metric, 'of': of, 'score': score, 'protocol': protocol}
  text = json.dumps(_to_json(result), indent=2, sort_keys=True, allow_nan=False)
  with new_file(path) as file:
    file.write_text(text + '\n')


def read_score(path: pathlib.Path) -> dict:
  """The content of a file of `write_score`; the file's name stands for a missing `metric` or `of`.

  UserError where it is not the file of a score.
  """
  result = files.read_object(path)
  for key in ('score', 'protocol'):
    if not isinstance(result.get(key), dict):
      raise UserError(f'{path} is no score: it has no {key!r} with names and values.')
  return {'metric': path.stem, 'of': path.stem} | result


def flatten(nested: Mapping, prefix: str = '') -> dict[str, object]:
  """The values of nested mappings, in their order; keys are joined with dots."""
  values = {}
  for key, value in nested.items():
    if isinstance(value, Mapping) and value:
      values |= flatten(value, f'{prefix}{key}.')
    else:
      values[f'{prefix}{key}'] = value
  return values


def differences(protocols: Sequence[Mapping]) -> dict[str, list]:
  """The value of each protocol, or `ABSENT`, for every key in which they differ, sorted.

  Nested keys are joined with dots.  Values are compared as JSON: a tuple equals a list, and 1
  equals 1.0 but not true.
  """
  flat = [flatten(_to_json(protocol)) for protocol in protocols]
  keys = sorted({key for protocol in flat for key in protocol})
  columns = {key: [protocol.get(key, ABSENT) for protocol in flat] for key in keys}
  return {
    key: values
    for key, values in columns.items()
    if len({_canonical_text(value) for value in values}) > 1
  }


def compare(scores: Sequence[Mapping]) -> list[Comparison]:
  """The scores by metric; metrics and protocols are in the order in which they first appear."""
  metrics = {}
  for score in scores:
    metrics.setdefault(score['metric'], []).append(score)
  return [_comparison(metric, group) for metric, group in metrics.items()]


def format_cell(value: object) -> str:
  """A value as text for a table: at least four digits of a float, JSON of other values."""
  if value is None:
    return 'null'
  if isinstance(value, str):
    return value
  if isinstance(value, float):
    return f'{value:.0f}' if 1e3 <= abs(value) < 1e9 else f'{value:.4g}'
  return json.dumps(value)


def _comparison(metric: str, scores: Sequence[Mapping]) -> Comparison:
  columns = differences([score['protocol'] for score in scores])
  protocols = [{key: values[i] for key, values in columns.items()} for i in range(len(scores))]
  groups = {}
  for i, protocol in enumerate(protocols):
    groups.setdefault(_canonical_text(protocol), []).append(i)
  flat = [flatten(_to_json(score['score'])) for score in scores]
  rows = [
    Row(scores[i]['of'], flat[i], protocols[i], marked=group > 0)
    for group, members in enumerate(groups.values())
    for i in members
  ]
  names = tuple(dict.fromkeys(name for score in flat for name in score))
  return Comparison(metric, names, tuple(columns), tuple(rows))


def _canonical_text(value: object) -> str:
  """A text that is equal for equal values of JSON."""
  match value:
    case dict():
      return '{' + ','.join(f'{k!r}:{_canonical_text(value[k])}' for k in sorted(value)) + '}'
    case list():
      return '[' + ','.join(map(_canonical_text, value)) + ']'
    case float() if value.is_integer():
      return repr(int(value))
  return repr(value)


def _to_json(value: object) -> object:
  """The value as JSON can represent it; UserError where it cannot."""
  match value:
    case Mapping():
      return {str(key): _to_json(item) for key, item in value.items()}
    case list() | tuple():
      return [_to_json(item) for item in value]
    case np.ndarray() | np.generic():
      return _to_json(value.tolist())
    case float() if not math.isfinite(value):
      return None
    case None | str() | bool() | int() | float():
      return value
  kind = type(value).__name__
  raise UserError(f'Got {value!r}, a {kind}; allowed in a score is what JSON has.')
