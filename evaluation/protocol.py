"""Scores with all that has to be the same for them to be: kept, read, and put side by side.

A file of a score is JSON:

    {"metric": str, "of": str, "score": {name: number}, "protocol": {key: value}, ...}

where `of` says what was scored, and what else there is are rows.  Names may be nested: those of a
table have dots.  What is no finite number is null.
"""

import dataclasses
import json
import math
import numbers
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from core.errors import UserError
from core.folder import new_file

ABSENT = '(absent)'  # in place of a value, where a protocol lacks the key
MARK = '†'


@dataclasses.dataclass(frozen=True)
class Row:
  """A score in a table."""

  of: str
  score: dict[str, object]  # numbers, or None
  protocol: dict[str, object]  # the keys that differ within the table, alone
  marked: bool  # whether its protocol is another than the first row's


@dataclasses.dataclass(frozen=True)
class Comparison:
  """The scores by one metric, those of one protocol next to each other."""

  metric: str
  names: tuple[str, ...]  # of all scores
  keys: tuple[str, ...]  # of protocols, that differ
  rows: tuple[Row, ...]

  @property
  def footnote(self) -> str:
    """What the mark means; empty where nothing is marked."""
    if not self.keys:
      return ''
    return (
      f'{MARK} of another protocol than the first row: {", ".join(self.keys)} differ.  Only rows '
      'that agree in all of these compare.'
    )


def write_score(
  path: pathlib.Path,
  metric: str,
  of: str,
  score: Mapping[str, object],
  protocol: Mapping[str, object],
  **rows: object,
) -> None:
  """Writes the file of a score, with sorted keys; it appears whole or not at all.

  ValueError, before anything is written, where there is no score, a part of it is no number, or
  something is not for JSON; OSError where the file can't be written.
  """
  if not score:
    raise UserError(f'Got an empty score of {metric}; allowed is one number or more.')
  for name, value in flat(score).items():
    if not isinstance(value, numbers.Real | None):
      raise UserError(f'The score {name} of {metric} is {value!r}; allowed is a number.')
  found = rows | {'metric': metric, 'of': of, 'score': score, 'protocol': protocol}
  text = json.dumps(_plain(found), indent=2, sort_keys=True, allow_nan=False)
  with new_file(path) as file:
    file.write_text(text + '\n')


def read_score(path: pathlib.Path) -> dict:
  """What `write_score` wrote; where a file has no `metric` or `of`, that is its name.

  ValueError where it is no file of a score.
  """
  try:
    found = json.loads(path.read_text())
  except ValueError as error:
    raise UserError(f'{path} is not JSON: {error}.') from error
  if not isinstance(found, dict):
    raise UserError(f'{path} is no score: it has a {type(found).__name__}, not keys.')
  for key in ('score', 'protocol'):
    if not isinstance(found.get(key), dict):
      raise UserError(f'{path} is no score: it has no {key!r} with names and values.')
  return {'metric': path.stem, 'of': path.stem} | found


def flat(nested: Mapping, head: str = '') -> dict[str, object]:
  """The values of nested mappings by their keys joined with dots, in their order."""
  values = {}
  for key, value in nested.items():
    if isinstance(value, Mapping) and value:
      values |= flat(value, f'{head}{key}.')
    else:
      values[f'{head}{key}'] = value
  return values


def differing(protocols: Sequence[Mapping]) -> dict[str, list]:
  """Of every key in which protocols differ, sorted, the value of each, or `ABSENT`.

  Nested keys are joined with dots.  Values are compared as JSON has them: a tuple is a list, 1 is
  1.0 but not true.
  """
  plain = [flat(_plain(protocol)) for protocol in protocols]
  columns = {
    key: [of.get(key, ABSENT) for of in plain] for key in sorted({k for of in plain for k in of})
  }
  return {key: of for key, of in columns.items() if len({_identity(value) for value in of}) > 1}


def compared(scores: Sequence[Mapping]) -> list[Comparison]:
  """The scores by metric, in the order in which metrics and protocols come first."""
  metrics = {}
  for one in scores:
    metrics.setdefault(one['metric'], []).append(one)
  return [_comparison(metric, of) for metric, of in metrics.items()]


def table(scores: Sequence[Mapping]) -> str:
  """The scores in Markdown, a table by metric.

  Rows whose protocol is another than the first one's are marked, and columns in italics have what
  differs.
  """
  return '\n\n'.join(map(_markdown, compared(scores)))


def cell(value: object) -> str:
  """A value as tables have it: four digits or more of what is no integer, JSON of the rest."""
  if value is None:
    return 'null'
  if isinstance(value, str):
    return value
  if isinstance(value, float):
    return f'{value:.0f}' if 1e3 <= abs(value) < 1e9 else f'{value:.4g}'
  return json.dumps(value)


def _comparison(metric: str, scores: Sequence[Mapping]) -> Comparison:
  protocols = differing([one['protocol'] for one in scores])
  own = [{key: values[i] for key, values in protocols.items()} for i in range(len(scores))]
  groups = {}
  for i, protocol in enumerate(own):
    groups.setdefault(_identity(protocol), []).append(i)
  flats = [flat(_plain(one['score'])) for one in scores]
  rows = [
    Row(scores[i]['of'], flats[i], own[i], marked=group > 0)
    for group, members in enumerate(groups.values())
    for i in members
  ]
  names = tuple(dict.fromkeys(name for of in flats for name in of))
  return Comparison(metric, names, tuple(protocols), tuple(rows))


def _markdown(of: Comparison) -> str:
  head = [f'{of.metric} of', *of.names, *(f'*{key}*' for key in of.keys)]
  lines = [_line(head), '|---|' + '---:|' * len(of.names) + '---|' * len(of.keys)]
  for row in of.rows:
    values = [cell(row.score[name]) if name in row.score else '' for name in of.names]
    name = f'{row.of} {MARK}' if row.marked else row.of
    lines.append(_line([name, *values, *(cell(row.protocol[key]) for key in of.keys)]))
  return '\n'.join([*lines, '', of.footnote] if of.footnote else lines)


def _line(cells: Sequence[str]) -> str:
  plain = (' '.join(text.split()).replace('|', '\\|') for text in cells)
  return f'| {" | ".join(plain)} |'


def _identity(value: object) -> str:
  """Text that is equal for what is equal."""
  whole = lambda v: int(v) if isinstance(v, float) and v.is_integer() else v
  match value:
    case dict():
      return '{' + ','.join(f'{k!r}:{_identity(value[k])}' for k in sorted(value)) + '}'
    case list():
      return '[' + ','.join(map(_identity, value)) + ']'
  return repr(whole(value))


def _plain(value: object) -> object:
  """The value as JSON has it."""
  match value:
    case Mapping():
      return {str(key): _plain(of) for key, of in value.items()}
    case list() | tuple():
      return [_plain(of) for of in value]
    case np.ndarray() | np.generic():
      return _plain(value.tolist())
    case float() if not math.isfinite(value):
      return None
    case None | str() | bool() | int() | float():
      return value
  kind = type(value).__name__
  raise UserError(f'Got {value!r}, a {kind}; allowed in a score is what JSON has.')
