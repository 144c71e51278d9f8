"""The answers of raters in a user study, and the key of the study."""

import dataclasses
import json
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence

from core.errors import UserError
from evaluation.user_study.page import FORMAT

Path = pathlib.Path

FACTS = ('study', 'ours', 'theirs', 'pairs', 'vigilance', 'size', 'fps', 'seed')  # keys of key.json
_ITEM_KEYS = {'kind', 'name', 'known', 'questions'}


@dataclasses.dataclass(frozen=True)
class Answer:
  """One answer of a rater."""

  pair: str
  question: str
  left: str  # the video, 'a' or 'b', that was shown on the left or first
  choice: str
  ms: int  # since the videos began to play


@dataclasses.dataclass(frozen=True)
class Session:
  """All answers of one file."""

  file: Path
  rater: str
  finished: str
  answers: tuple[Answer, ...]


def read_key(file: Path) -> dict:
  """The content of key.json, which raters must not see; UserError where the file is no key."""
  key = _read_object(file)
  items = key.get('items')
  complete = isinstance(items, dict) and all(
    isinstance(item, dict) and item.keys() >= _ITEM_KEYS for item in items.values()
  )
  if not complete or not key.keys() >= set(FACTS):
    needed = ', '.join(sorted([*FACTS, 'items']))
    raise UserError(f'{file} is no key; allowed is key.json of a study, which has {needed}.')
  return key


def read_sessions(
  answers: Path | Sequence[Path], key: Mapping
) -> tuple[list[Session], dict[str, str]]:
  """One session of each rater, and the reason why each other file is dropped.

  answers: a folder of .json files, or the files.

  UserError, which names the file, where the page of this study would not have written it.
  """
  return _one_per_rater([_read_session(file, key) for file in _files(answers)])


def _one_per_rater(sessions: Sequence[Session]) -> tuple[list[Session], dict[str, str]]:
  """The session of each rater with most answers, and why the others are dropped."""
  kept, dropped = {}, {}
  for session in sorted(sessions, key=lambda s: (-len(s.answers), s.finished, str(s.file))):
    first = kept.setdefault(session.rater, session)
    if first is not session:
      dropped[str(session.file)] = f'rater {session.rater} is in {first.file} too'
  return list(kept.values()), dropped


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


def _read_object(file: Path) -> dict:
  try:
    content = json.loads(file.read_text('utf-8'))
  except (OSError, ValueError) as error:
    raise UserError(f'{file} cannot be read as JSON: {error}.') from error
  if not isinstance(content, dict) or content.get('version') != FORMAT:
    raise UserError(f'{file} is not of this version of a study; allowed is version {FORMAT}.')
  return content


def _read_session(file: Path, key: Mapping) -> Session:
  """The answers in a file; UserError where the page of the study would not have written it."""
  content = _read_object(file)
  if content.get('study') != key['study']:
    raise UserError(f'{file} is of study {content.get("study")!r}; allowed is {key["study"]!r}.')
  rater, lines = content.get('rater'), content.get('answers')
  if not isinstance(rater, str) or not rater or not isinstance(lines, list) or not lines:
    raise UserError(f'{file} has no rater or no answers; allowed is a file that the page saved.')
  numbered = enumerate(lines, 1)
  answers = tuple(_parse_answer(line, f'{file}, answer {i}', key) for i, line in numbered)
  counts = Counter((answer.pair, answer.question) for answer in answers)
  if repeated := [f'{pair} {question}' for (pair, question), n in counts.items() if n > 1]:
    raise UserError(f'{file} answers {", ".join(repeated)} more than once; allowed is once.')
  return Session(file, rater, str(content.get('finished')), answers)


def _parse_answer(line, where: str, key: Mapping) -> Answer:
  fields = [field.name for field in dataclasses.fields(Answer)]
  if not isinstance(line, dict) or set(line) != set(fields):
    raise UserError(f'{where}: allowed is an object with {", ".join(fields)}.')
  pair, question, left, choice, ms = (line[name] for name in fields)
  item = key['items'].get(pair) if isinstance(pair, str) else None
  if item is None or question not in item['questions']:
    raise UserError(f'{where}: pair {pair!r} is not asked {question!r} here.')
  if choice not in ('a', 'b') or left not in ('a', 'b'):
    raise UserError(f'{where}: got {choice!r} of {left!r} first; allowed: a, b.')
  if not isinstance(ms, int) or ms < 0:
    raise UserError(f'{where}: got {ms!r} ms; allowed are whole numbers from 0 on.')
  return Answer(**line)
