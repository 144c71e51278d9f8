"""Lists of prompts, as they are published: lines of text, JSON or a table."""

import json
import pathlib

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
    text = path.read_text('utf-8-sig')
    match path.suffix.lower():
      case '.txt' | '':
        found = text.splitlines()
      case '.tsv':
        lines = (line for line in text.splitlines() if line.strip() and line[0] != '#')
        found = [line.split('\t')[-1] for line in lines]
      case '.json':
        found = list(map(_said, _listed(json.loads(text))))
      case '.jsonl':
        found = [_said(json.loads(line)) for line in text.splitlines() if line.strip()]
      case other:
        raise ValueError(f'it is {other}')
    prompts = [prompt.strip() for prompt in found if prompt.strip()]
  except (OSError, ValueError, TypeError, AttributeError) as error:
    raise ValueError(f'Cannot read the prompts of {path}: {error}; {ALLOWED}.') from error
  if not prompts:
    raise ValueError(f'{path} has no prompt; {ALLOWED}.')
  return prompts


def _listed(items: object) -> list:
  if not isinstance(items, list):
    raise ValueError(f'it is a {type(items).__name__}, not a list')
  return items


def _said(item: str | dict) -> str:
  if isinstance(item, str):
    return item
  if 'prompt' not in item and 'caption' not in item:
    raise ValueError(f'{json.dumps(item)[:60]} has neither "prompt" nor "caption"')
  return item.get('prompt') or item.get('caption') or ''
