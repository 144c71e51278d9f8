"""Lists of prompts from a file: text lines, JSON, JSON lines or a table."""

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

from core import unicode
from core.errors import UserError

ALLOWED = (
  'allowed are .txt with one prompt a line, .tsv with the prompt in the last column, and .json or '
  '.jsonl of texts or of objects with "prompt" or "caption"'
)


def read(path: pathlib.Path) -> list[str]:
  """The prompts of a file, in its order; repeated prompts are kept.

  Blank lines are ignored, and so are lines of a table that begin with #.  A file without an
  extension is read as .txt.

  ValueError if the file can't be read, has no prompt, or has another extension.
  """
  try:
    text = unicode.decoded(path.read_bytes())
    match path.suffix.lower():
      case '.txt' | '':
        texts = unicode.lines(text)
      case '.tsv':
        lines = (line for line in unicode.lines(text) if line.strip() and line[0] != '#')
        texts = [line.split('\t')[-1] for line in lines]
      case '.json':
        texts = list(_each('item', _list(json.loads(text)), _prompt))
      case '.jsonl':
        texts = list(_each('line', unicode.lines(text), lambda line: _prompt(json.loads(line))))
      case other:
        raise UserError(f'its extension is {other}')
    prompts = [prompt.strip() for prompt in texts if prompt.strip()]
  except (OSError, ValueError) as error:
    raise UserError(f'Cannot read the prompts of {path}: {error}; {ALLOWED}.') from error
  if not prompts:
    raise UserError(f'{path} has no prompt; {ALLOWED}.')
  return prompts


def _each(kind: str, items: Sequence[object], prompt_of: Callable[[object], str]) -> Iterator[str]:
  """The prompt of each item that is not blank; the item's number is added to errors."""
  for number, item in enumerate(items, 1):
    if isinstance(item, str) and not item.strip():
      continue
    try:
      yield unicode.require(prompt_of(item))
    except ValueError as error:
      raise UserError(f'{kind} {number}: {error}') from error


def _list(items: object) -> list:
  if not isinstance(items, list):
    raise UserError(f'it is a {type(items).__name__}, not a list')
  return items


def _prompt(item: object) -> str:
  if isinstance(item, str):
    return item
  if not isinstance(item, dict) or not item.keys() & {'prompt', 'caption'}:
    raise UserError(f'{json.dumps(item)[:60]} has neither "prompt" nor "caption"')
  prompt = item.get('prompt') or item.get('caption') or ''
  if not isinstance(prompt, str):
    raise UserError(f'the prompt {json.dumps(prompt)[:60]} is not a string')
  return prompt
