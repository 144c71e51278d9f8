"""What a folder of videos says of each: the lines of its index, or of its captions."""

import json
import pathlib
from collections.abc import Collection, Mapping

from core import files as names
from core import unicode
from core.errors import UserError
from data import captions
from pipelines.jobs import INDEX

INDICES = (INDEX, 'captions.jsonl')  # the first of which is there counts
TEXTS = ('prompt', 'caption', 'label')  # of a line, the first that is not blank counts


def prompt(line: Mapping[str, str | None]) -> str:
  """The prompt that a line has, or else its caption, or its label in words; blank without any."""
  return (line.get('prompt') or '').strip() or captions.caption(line)


def read(folder: pathlib.Path, files: Collection[str]) -> dict[str, dict]:
  """The line that `index.jsonl`, or else `captions.jsonl`, has of each of the files that has one.

  ValueError where a line of it is of no file, or what it says of one is no text.
  """
  path = next((p for name in INDICES if (p := folder / name).is_file()), None)
  if path is None:
    return {}
  try:
    text = unicode.decoded(path.read_bytes())
  except ValueError as error:
    raise UserError(f'{path}, {error}.') from error
  numbered = enumerate(unicode.lines(text), 1)
  lines = dict(_entry(line, f'{path}, line {n}') for n, line in numbered if line.strip())
  found = names.resolve(folder, lines.keys(), files)
  return {found[line]: lines[line] for line in sorted(found, key=lambda line: line == found[line])}


def _entry(text: str, where: str) -> tuple[str, dict]:
  """The file of a line, and all else that the line says."""
  allowed = f'{where}: allowed is a JSON object with file and prompt'
  try:
    line = json.loads(text)
    file = str(pathlib.PurePosixPath(line.pop('file')))
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(f'{allowed}.') from error
  for key in TEXTS:
    if not isinstance(line.get(key), str | None):
      raise UserError(f'{allowed}; got the {key} {json.dumps(line[key])[:40]}.')
    try:
      unicode.require(line.get(key) or '')
    except ValueError as error:
      raise UserError(f'{where}: {error}.') from error
  return file, line
