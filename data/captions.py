"""Captions of videos: the entries of a manifest, and the files that they are about."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Collection, Mapping

from core import files, unicode
from core.errors import UserError
from data.on_disk import Table

MISSING = 'no such file'
UNLISTED = 'no line in the captions'
ALONE = 'no caption in a .txt or .json file of its name beside it'
BLANK = 'neither caption nor label'
KEYS = ('caption', 'file', 'label', 'source_video', 'split')
NAMED = {'file_name': 'file', 'text': 'caption'}  # what the metadata of Hugging Face call them
LABEL = '{label}'  # in a template
MAX_TEXT = 100_000  # characters of a caption; fewer than `csv.field_size_limit()`
SPLIT = re.compile('[a-z][a-z0-9_]{0,63}')  # TFDS calls files so, and all splits together 'all'


@dataclasses.dataclass(frozen=True)
class Line:
  """What a manifest says about one video file."""

  caption: str | None
  split: str | None
  source_video: str | None = None  # the name of the video that the file was cut from
  where: str = dataclasses.field(default='', compare=False)  # its place in the manifest
  # Of which the caption has the words, if there is no other.
  label: str = dataclasses.field(default='', compare=False)


def match(
  videos: pathlib.Path,
  lines: Mapping[str, Line],
  ignored: Collection[str] = (),
  *,
  unlisted: str = UNLISTED,
  blank: bool = False,
) -> tuple[Table[str, Line], Table[str, str]]:
  """The lines of the files that can be used, and why each of the others can't.

  The lines are by the file's path on disk.  The others are all further files in the folder and in
  `lines`, except those that are `ignored`.

  unlisted: the reason of files in the folder that have no line.

  blank: whether lines without a caption can be used.
  """
  if not videos.is_dir():
    raise UserError(f'There is no folder {videos}; --videos is a folder of video files.')
  usable, present, reasons = Table(), Table(), Table()

  def unreadable(folder: pathlib.Path, error: OSError) -> None:
    reasons[folder.relative_to(videos).as_posix()] = f'cannot be read: {error.strerror}'

  for file in files.below(videos, unreadable):
    if file not in ignored:
      present[file] = None
  usable.update((file, line) for file, line in lines.items() if file in present)
  others = files.other_names(videos, lines.keys(), present.keys())
  for name in sorted(name for name in lines if name not in present):
    if name not in others:
      reasons[name] = MISSING
    elif (file := others[name]) in usable:
      reasons[name] = f'another name of {file}, which has a line'
    else:
      usable[file] = lines[name]
  reasons.update((file, unlisted) for file in present if file not in usable)
  if not blank:
    reasons.update((file, BLANK) for file, line in usable.items() if not line.caption)
  for file in reasons:
    usable.pop(file, None)
  return usable, reasons


def caption(line: Mapping[str, str | None]) -> str:
  """The caption of a line, or the words of its label, or '' if it has neither."""
  return (line.get('caption') or '').strip() or words(line.get('label') or '')


def parse(entry: object, where: str = '') -> tuple[str, Line]:
  """The file that an entry of a manifest is about, and its line.

  An entry is an object with `file`, with `caption` or `label` or both, and optionally with `split`
  and `source_video`, or with other names for them (`NAMED`); other keys are ignored.  If there is
  no caption, the `words` of the label are the caption.  ValueError for anything else.
  """
  if not isinstance(entry, dict):
    raise UserError(f'got {json.dumps(entry)[:40]}')
  entry = {NAMED[key]: value for key, value in entry.items() if key in NAMED} | entry
  if 'file' not in entry:
    raise UserError('no "file"')
  entry = {key: value for key, value in entry.items() if value is not None or key == 'file'}
  for key in (key for key in KEYS if key in entry):
    if not isinstance(entry[key], str):
      raise UserError(f'got "{key}": {json.dumps(entry[key], default=str)[:40]}')
    if len(entry[key]) > MAX_TEXT:
      raise UserError(
        f'got "{key}" of {len(entry[key]):,} characters; at most {MAX_TEXT:,} are allowed'
      )
    if key != 'file':  # the name of a file may contain bytes that are not UTF-8
      unicode.require(entry[key])
  path = pathlib.PurePosixPath(entry['file'])
  if path.is_absolute() or '..' in path.parts or not path.parts:
    raise UserError(
      f'got the file {entry["file"]!r}; allowed is a path relative to the folder of videos, '
      'without ..'
    )
  if 'split' in entry and (not SPLIT.fullmatch(entry['split']) or entry['split'] == 'all'):
    raise UserError(
      f'got the split {entry["split"][:80]!r}; allowed are 1 to 64 lower-case letters, digits and '
      "_, of which the first is a letter, but not 'all'"
    )
  text, label = caption(entry), entry.get('label') or ''
  label = '' if (entry.get('caption') or '').strip() else label
  return str(path), Line(text or None, entry.get('split'), entry.get('source_video'), where, label)


def described(lines: Mapping[str, Line], template: str) -> Table[str, Line]:
  """The lines with captions made from labels by a template: see `of_label`.

  ValueError if the template is not '' and has no `LABEL`.
  """
  require_template(template, '--caption_template')
  return Table(
    (
      file,
      dataclasses.replace(line, caption=of_label(line.label, template)) if line.label else line,
    )
    for file, line in lines.items()
  )


def require_template(template: str, name: str) -> None:
  """Raises ValueError if a template of labels, called `name`, is not '' and has no `LABEL`."""
  if template and LABEL not in template:
    raise UserError(f'Got {name}={template!r}; allowed is a text with {LABEL}.')


def of_label(label: str, template: str) -> str:
  """The template with the `words` of a label in place of `LABEL`, or if it is '' the words."""
  return (template or LABEL).replace(LABEL, words(label))


def words(label: str) -> str:
  """A label as text in lower case: 'UCF101:ApplyEyeMakeup' is 'apply eye makeup'."""
  name = label.split(':')[-1]
  return ' '.join(re.sub('(?<=[a-z0-9])(?=[A-Z])|_', ' ', name).lower().split())
