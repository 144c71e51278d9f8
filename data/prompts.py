"""Lists of prompts, as they are published: lines of text, JSON or a table."""

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

from core import unicode
from core.errors import UserError

ALLOWED = (
  'allowed are .txt with a prompt a line, .tsv with the prompt in the last column, and .json or '
  '.jsonl of texts or of objects with "prompt" or "caption"'
)


def read(path: pathlib.Path) -> list[str]:
  """The prompts of a file, in its order, as often as they are there.

  Blank ones are none, and in a table lines that begin with # either; without an extension it is a
  .txt.  ValueError where the file can't be read, has no prompt, or is another format's.
  """
  try:
    text = unicode.decoded(path.read_bytes())
    match path.suffix.lower():
      case '.txt' | '':
        found = unicode.lines(text)
      case '.tsv':
        lines = (line for line in unicode.lines(text) if line.strip() and line[0] != '#')
        found = [line.split('\t')[-1] for line in lines]
      case '.json':
        found = list(_each('item', _list(json.loads(text)), _prompt))
      case '.jsonl':
        found = list(_each('line', unicode.lines(text), lambda line: _prompt(json.loads(line))))
      case other:
        raise UserError(f'it is {other}')
    prompts = [prompt.strip() for prompt in found if prompt.strip()]
  except (OSError, ValueError) as error:
    raise UserError(f'Cannot read the prompts of {path}: {error}; {ALLOWED}.') from error
  if not prompts:
    raise UserError(f'{path} has no prompt; {ALLOWED}.')
  return prompts


def _each(kind: str, items: Sequence[object], prompt_of: Callable[[object], str]) -> Iterator[str]:
  """The prompt of each item that is not blank; the errors of `prompt_of` with the item's number."""
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
    raise UserError(f'the prompt {json.dumps(prompt)[:60]} is no text')
  return prompt
