"""The answers that raters of a `user_study` give, and the key which says what they mean."""

import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence

from core.errors import UserError
from evaluation.user_study.page import FORMAT

Path = pathlib.Path

FACTS = ('study', 'ours', 'theirs', 'pairs', 'vigilance', 'size', 'fps', 'seed')  # of a key
_OF_ITEMS = {'kind', 'name', 'known', 'questions'}


@dataclasses.dataclass(frozen=True)
class Answer:
  """One judgement."""

  pair: str
  question: str
  left: str  # the side of the pair, 'a' or 'b', which was shown left or first
  choice: str
  ms: int  # from the videos' beginning


@dataclasses.dataclass(frozen=True)
class Session:
  """All answers of one file."""

  file: Path
  rater: str
  finished: str
  answers: tuple[Answer, ...]


def read_key(file: Path) -> dict:
  """What raters of a study must not know; ValueError where the file is no key."""
  known = _object(file)
  items = known.get('items')
  whole = isinstance(items, dict) and all(
    isinstance(item, dict) and item.keys() >= _OF_ITEMS for item in items.values()
  )
  if not whole or not known.keys() >= set(FACTS):
    needed = ', '.join(sorted([*FACTS, 'items']))
    raise UserError(f'{file} is no key; allowed is key.json of a study, which has {needed}.')
  return known


def read_sessions(
  answers: Path | Sequence[Path], known: Mapping
) -> tuple[list[Session], dict[str, str]]:
  """One session of each rater, and why the other files are dropped.

  answers: a folder of .json files, or these.  ValueError, which names the file, for what the page
  of this study would not have written.
  """
  return _one_each([_read(file, known) for file in _files(answers)])


def _one_each(sessions: Sequence[Session]) -> tuple[list[Session], dict[str, str]]:
  """One session of each rater, and why the others are dropped."""
  best, dropped = {}, {}
  for session in sorted(sessions, key=lambda s: (-len(s.answers), s.finished, str(s.file))):
    first = best.setdefault(session.rater, session)
    if first is not session:
      dropped[str(session.file)] = f'rater {session.rater} is in {first.file} too'
  return list(best.values()), dropped


def _files(answers: Path | Sequence[Path]) -> list[Path]:
  if not isinstance(answers, pathlib.PurePath):
    files = list(answers)
  elif answers.is_dir():
    files = sorted(answers.glob('*.json'))
  else:
    files = [answers]
  if not files:
    raise UserError(f'{answers} has no answers; allowed is a folder of .json files, or these.')
  return files


def _object(file: Path) -> dict:
  try:
    found = json.loads(file.read_text('utf-8'))
  except (OSError, ValueError) as error:
    raise UserError(f'{file} cannot be read as JSON: {error}.') from error
  if not isinstance(found, dict) or found.get('version') != FORMAT:
    raise UserError(f'{file} is not of this version of a study; allowed is version {FORMAT}.')
  return found


def _read(file: Path, known: Mapping) -> Session:
  """The answers of a file; ValueError for whatever the study's page would not write."""
  found = _object(file)
  if found.get('study') != known['study']:
    raise UserError(f'{file} is of study {found.get("study")!r}; allowed is {known["study"]!r}.')
  rater, lines = found.get('rater'), found.get('answers')
  if not isinstance(rater, str) or not rater or not isinstance(lines, list) or not lines:
    raise UserError(f'{file} has no rater or no answers; allowed is a file that the page saved.')
  answers = tuple(_answer(line, f'{file}, answer {i}', known) for i, line in enumerate(lines, 1))
  asked = Counter((answer.pair, answer.question) for answer in answers)
  if twice := [f'{pair} {question}' for (pair, question), count in asked.items() if count > 1]:
    raise UserError(f'{file} answers {", ".join(twice)} more than once; allowed is once.')
  return Session(file, rater, str(found.get('finished')), answers)


def _answer(line, where: str, known: Mapping) -> Answer:
  fields = [field.name for field in dataclasses.fields(Answer)]
  if not isinstance(line, dict) or set(line) != set(fields):
    raise UserError(f'{where}: allowed is an object with {", ".join(fields)}.')
  pair, question, left, choice, ms = (line[name] for name in fields)
  item = known['items'].get(pair) if isinstance(pair, str) else None
  if item is None or question not in item['questions']:
    raise UserError(f'{where}: pair {pair!r} is not asked {question!r} here.')
  if choice not in ('a', 'b') or left not in ('a', 'b'):
    raise UserError(f'{where}: got {choice!r} of {left!r} first; allowed: a, b.')
  if not isinstance(ms, int) or ms < 0:
    raise UserError(f'{where}: got {ms!r} ms; allowed are whole numbers from 0 on.')
  return Answer(**line)
