"""A folder of videos: its files, their prompts, what made them, and a digest of all of it."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Collection, Mapping

from core import files as file_names
from core import unicode
from core.errors import UserError
from data import captions
from pipelines.jobs import INDEX

EXTENSIONS = (
  '.3g2', '.3gp', '.apng', '.asf', '.avi', '.avif', '.divx', '.dv', '.f4v', '.flv', '.gif', '.gxf',
  '.h264', '.hevc', '.ivf', '.m1v', '.m2ts', '.m2v', '.m4v', '.mjpeg', '.mjpg', '.mkv', '.mov',
  '.mp4', '.mpeg', '.mpg', '.mts', '.mxf', '.npy', '.nut', '.ogg', '.ogm', '.ogv', '.qt', '.rm',
  '.rmvb', '.ts', '.vob', '.webm', '.webp', '.wmv', '.y4m',
)  # fmt: skip
INDICES = (INDEX, 'captions.jsonl')  # the first of these that exists is read
TEXT_KEYS = ('prompt', 'caption', 'label')  # the first of these that is not blank is the prompt
VIDEO_KEYS = ('prompt', 'number')  # these describe one video, and not the model that made it


@dataclasses.dataclass(frozen=True)
class Folder:
  """The videos of a folder: their paths relative to it, sorted."""

  path: pathlib.Path
  files: tuple[str, ...]

  def digest(self) -> str:
    """SHA-256 of the names and the contents of all files."""
    total = hashlib.sha256()
    for file in self.files:
      with (self.path / file).open('rb') as opened:
        content = hashlib.file_digest(opened, 'sha256').hexdigest().encode()
        total.update(os.fsencode(file) + b'\0' + content + b'\n')
    return total.hexdigest()

  def prompts(self) -> dict[str, str]:
    """The prompt of each file; UserError where one has none, and as in `known_prompts`."""
    prompts = self.known_prompts()
    if missing := [file for file in self.files if file not in prompts]:
      raise UserError(
        f'{self.path} has no prompt of {len(missing)} videos, as {missing[0]}; in {INDEX} there '
        'each has a line with file and prompt.'
      )
    return prompts

  def known_prompts(self) -> dict[str, str]:
    """The prompt of each file that has one in `index.jsonl` or, without it, `captions.jsonl`.

    UserError where a line of that file is malformed.
    """
    lines = read_index(self.path, self.files)
    prompts = {file: line_prompt(line) for file, line in lines.items()}
    return {file: prompts[file] for file in self.files if prompts.get(file, '').strip()}

  def made_by(self) -> dict[str, str]:
    """The model and the settings that made all of the files; empty where no index says so."""
    try:
      lines = read_index(self.path, self.files)
    except ValueError:
      return {}  # the index was written by another program
    all_facts = [lines.get(file, {}) for file in self.files]
    shared = {
      key: value
      for key, value in all_facts[0].items()
      if all(facts.get(key) == value for facts in all_facts)
    }
    if 'model' not in shared:
      return {}
    return {key: str(value) for key, value in shared.items() if key not in VIDEO_KEYS}


def open_folder(path: str | os.PathLike) -> Folder:
  """The videos below a folder, also behind links; UserError where there is none.

  A video is a file with one of `EXTENSIONS` that is not hidden, or any file that has a line in an
  index, as `data.builder` reads it.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    raise UserError(f'There is no folder {path}.')
  every = list(file_names.below(path))
  shown = (file for file in every if not any(part.startswith('.') for part in file.split('/')))
  videos = {file for file in shown if pathlib.PurePath(file).suffix.lower() in EXTENSIONS}
  with contextlib.suppress(ValueError):  # the index was written by another program
    videos |= read_index(path, every).keys()
  if not videos:
    raise UserError(f'{path} has no video; allowed are {", ".join(EXTENSIONS)}.')
  return Folder(path, tuple(sorted(videos)))


def line_prompt(line: Mapping[str, str | None]) -> str:
  """The prompt of a line of an index, or its caption, or its label in words; blank without any."""
  return (line.get('prompt') or '').strip() or captions.caption(line)


def read_index(folder: pathlib.Path, files: Collection[str]) -> dict[str, dict]:
  """The line of each of the files that has one in `index.jsonl` or, without it, `captions.jsonl`.

  UserError where a line has no file, or where one of its `TEXT_KEYS` is not a text.
  """
  path = next((p for name in INDICES if (p := folder / name).is_file()), None)
  if path is None:
    return {}
  try:
    text = unicode.decoded(path.read_bytes())
  except ValueError as error:
    raise UserError(f'{path}, {error}.') from error
  numbered = enumerate(unicode.lines(text), 1)
  lines = dict(_parse_line(line, f'{path}, line {n}') for n, line in numbered if line.strip())
  present = file_names.resolve(folder, lines.keys(), files)
  # Where two lines mean one file, the line with the file's exact name comes last and wins.
  ordered = sorted(present, key=lambda name: name == present[name])
  return {present[name]: lines[name] for name in ordered}


def _parse_line(text: str, where: str) -> tuple[str, dict]:
  """The file that a line is about, and everything else in the line."""
  allowed = f'{where}: allowed is a JSON object with file and prompt'
  try:
    line = json.loads(text)
    file = str(pathlib.PurePosixPath(line.pop('file')))
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(f'{allowed}.') from error
  for key in TEXT_KEYS:
    if not isinstance(line.get(key), str | None):
      raise UserError(f'{allowed}; got the {key} {json.dumps(line[key])[:40]}.')
    try:
      unicode.require(line.get(key) or '')
    except ValueError as error:
      raise UserError(f'{where}: {error}.') from error
  return file, line
