"""Captions of a folder of videos: a file with one JSON object a line."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping

from core import files, unicode
from core.errors import UserError, UserFileError

ALLOWED = (
  'allowed is one object for each file, with strings "file", "caption" or "label" (or null) '
  'and perhaps "split" and "source_video"'
)


@dataclasses.dataclass(frozen=True)
class Line:
  """What the captions say about one video file."""

  caption: str | None
  split: str | None
  source_video: str | None = None  # the name of the video that the file was cut from


def read(path: pathlib.Path) -> dict[str, Line]:
  """The lines of a file of captions, by the path of the video relative to the folder of videos.

  A line is a JSON object with `file`, with `caption` or `label` or both, and optionally with
  `split` and `source_video`; other keys are ignored.  If there is no caption, the `words` of the
  label are the caption.

  ValueError, with the number of the line, if a line is anything else.
  """
  if not path.is_file():
    raise UserError(f'There is no file {path}; --captions is a file with one JSON object a line.')
  try:
    text = unicode.decoded(path.read_bytes())
  except ValueError as error:
    raise UserError(f'{path.name}, {error}.') from error
  except OSError as error:
    raise UserFileError(f'Cannot read {path}: {error.strerror or error}.') from error
  lines = {}
  for number, line in enumerate(unicode.lines(text), 1):
    if not line.strip():
      continue
    try:
      file, parsed = _parse(line)
      if file in lines:
        raise UserError(f'another line for {file!r}')
    except ValueError as error:
      raise UserError(f'{path.name}, line {number}: {error}; {ALLOWED}.') from error
    lines[file] = parsed
  return lines


def match(videos: pathlib.Path, lines: dict[str, Line]) -> tuple[dict[str, Line], dict[str, str]]:
  """The lines of the files that can be used, and why each of the others can't.

  The lines are sorted by the file's path on disk.  The others are all further files in the folder
  and in `lines`.
  """
  if not videos.is_dir():
    raise UserError(f'There is no folder {videos}; --videos is a folder of video files.')
  reasons = {}

  def unreadable(folder: pathlib.Path, error: OSError) -> None:
    reasons[folder.relative_to(videos).as_posix()] = f'cannot be read: {error.strerror}'

  present = set(files.below(videos, unreadable))
  matched = files.resolve(videos, lines.keys(), present)
  usable = {}
  for line in sorted(matched, key=lambda line: (line != matched[line], line)):
    if (file := matched[line]) in usable:
      reasons[line] = f'another name of {file}, which has a line'
    else:
      usable[file] = lines[line]
  reasons |= dict.fromkeys(present - usable.keys(), 'no line in the captions')
  reasons |= dict.fromkeys(lines.keys() - matched.keys(), 'no such file')
  blank = [file for file, line in usable.items() if not line.caption]
  reasons |= dict.fromkeys(blank, 'neither caption nor label')
  return {file: usable[file] for file in sorted(usable.keys() - reasons.keys())}, reasons


def caption(line: Mapping[str, str | None]) -> str:
  """The caption of a line, or the words of its label, or '' if it has neither."""
  return (line.get('caption') or '').strip() or words(line.get('label') or '')


def _parse(text: str) -> tuple[str, Line]:
  try:
    line = json.loads(text)
  except ValueError as error:
    raise UserError(f'no JSON: {error}') from error
  if not isinstance(line, dict):
    raise UserError(f'got {text[:40]}')
  if 'file' not in line:
    raise UserError('no "file"')
  keys = ('caption', 'file', 'label', 'source_video', 'split')
  for key in (key for key in keys if key in line):
    if not isinstance(line[key], str) and not (line[key] is None and key in ('caption', 'label')):
      raise UserError(f'got "{key}": {json.dumps(line[key])[:40]}')
    if key != 'file':  # the name of a file may contain bytes that are not UTF-8
      unicode.require(line[key] or '')
  path = pathlib.PurePosixPath(line['file'])
  if path.is_absolute() or '..' in path.parts or not path.parts:
    raise UserError(f'got the file {line["file"]!r}, which is not below the folder')
  if 'split' in line and not re.fullmatch('[a-z][a-z0-9_]*', line['split']):
    raise UserError(f'got the split {line["split"]!r}, which is no lower-case name')
  text = caption(line) or None
  return str(path), Line(text, line.get('split'), line.get('source_video'))


def words(label: str) -> str:
  """A label as text in lower case: 'UCF101:ApplyEyeMakeup' is 'apply eye makeup'."""
  name = label.split(':')[-1]
  return ' '.join(re.sub('(?<=[a-z0-9])(?=[A-Z])|_', ' ', name).lower().split())
