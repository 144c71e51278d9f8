"""The work of a build that is not finished, in a folder beside its output, to be continued.

`results.jsonl` gets a line for each file that is done, `clips.bin` the clips that were encoded, and
`captions.jsonl` a line for each batch of captions.  They only grow, and a line is written after the
clips.  A process that is killed can therefore
spoil nothing but the end, which is removed when the work is continued.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import IO

from core.errors import UserError
from core.folder import new_file
from data import filters, sources

SETTINGS, RESULTS, CLIPS = 'settings.json', 'results.jsonl', 'clips.bin'
CAPTIONS = 'captions.jsonl'


@dataclasses.dataclass(frozen=True)
class Progress:
  """The results so far, by file; the `encoded` of a segment is a `sources.Stored` in them."""

  done: dict[str, sources.Source | str]
  batches: list  # of captions: what was added, in order
  _results: IO[bytes]
  _clips: IO[bytes]
  _captions: IO[bytes]

  def add_batch(self, batch: dict) -> None:
    """Stores an object about a batch of captions."""
    self._captions.write(json.dumps(batch).encode() + b'\n')
    _flush(self._captions)
    self.batches.append(json.loads(json.dumps(batch)))

  def add(self, file: str, version: list[int], result: sources.Source | str) -> None:
    """Stores the result for a file, whose version is that of `version_of`."""
    if isinstance(result, sources.Source):
      result = dataclasses.replace(result, segments=tuple(map(self._with_stored, result.segments)))
      _flush(self._clips)
    line = {'file': file, 'version': version, 'result': _to_json(result)}
    self._results.write(json.dumps(line).encode() + b'\n')
    _flush(self._results)
    self.done[file] = result

  def _with_stored(self, segment: sources.Segment) -> sources.Segment:
    if segment.encoded is None:
      return segment
    offset = self._clips.seek(0, os.SEEK_END)
    self._clips.write(segment.encoded)
    stored = sources.Stored(pathlib.Path(self._clips.name), offset, len(segment.encoded))
    return dataclasses.replace(segment, encoded=stored)


def version_of(path: pathlib.Path) -> list[int]:
  """Size and time of a file, which change with its contents; empty if there is no such file."""
  try:
    status = path.stat()
  except OSError:
    return []
  return [status.st_size, status.st_mtime_ns]


def folder_for(out: pathlib.Path) -> pathlib.Path:
  """The folder of the work for the output `out`."""
  out = out.absolute()  # '.' has no name
  return out.with_name(out.name + '.parts')


@contextlib.contextmanager
def continued(out: pathlib.Path, videos: pathlib.Path, settings: dict) -> Iterator[Progress]:
  """The progress of a build, which is kept if the context ends with an error, and removed if not.

  settings: everything on which results depend.  Results of another version of a file are left out.

  ValueError if there is work of other settings, or if another process works there.
  """
  folder = folder_for(out)
  folder.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    results, clips, captions = (
      stack.enter_context((folder / name).open('a+b')) for name in (RESULTS, CLIPS, CAPTIONS)
    )
    try:
      fcntl.flock(results, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the process ends, however it does
    except BlockingIOError as error:
      raise UserError(f'{folder} is in use: another process is building {out}.') from error
    _require_settings(folder, settings)
    done, batches = _done(videos, results, clips), _batches(captions)
    yield Progress(done, batches, results, clips, captions)
  shutil.rmtree(folder)


def discard(out: pathlib.Path) -> None:
  """Removes the progress of a build whose results are of no use."""
  shutil.rmtree(folder_for(out), ignore_errors=True)


def _require_settings(folder: pathlib.Path, settings: dict) -> None:
  path, settings = folder / SETTINGS, json.loads(json.dumps(settings))
  if not path.exists():
    with new_file(path) as file:
      file.write_text(json.dumps(settings, indent=2) + '\n', 'utf-8')
    return
  before = json.loads(path.read_text('utf-8'))
  for name in sorted({*before, *settings}):
    if before.get(name) != settings.get(name):
      raise UserError(
        f'{folder} has the work of a build with {name}={before.get(name)}, and this one has '
        f'{name}={settings.get(name)}: continue with the same, or remove that folder.'
      )


def _done(videos: pathlib.Path, results: IO[bytes], clips: IO[bytes]) -> dict:
  """The results in the files, whose incomplete ends are removed."""
  done, end, clips_end = {}, 0, 0
  size = os.fstat(clips.fileno()).st_size
  results.seek(0)
  for text in results:
    line = _line(text)
    if line is None:
      break
    result = _from_json(line['result'], pathlib.Path(clips.name))
    stored = [s.encoded for s in getattr(result, 'segments', ()) if s.encoded]
    if any(one.offset + one.size > size for one in stored):
      break
    end += len(text)
    clips_end = max([clips_end, *(one.offset + one.size for one in stored)])
    if line['version'] == version_of(videos / line['file']):
      done[line['file']] = result
    else:
      done.pop(line['file'], None)
  results.truncate(end)
  clips.truncate(clips_end)
  for file in (results, clips):
    file.seek(0, os.SEEK_END)
  return done


def _batches(captions: IO[bytes]) -> list:
  """The batches in the file, whose incomplete end is removed."""
  batches, end = [], 0
  captions.seek(0)
  for text in captions:
    if (batch := _line(text)) is None:
      break
    batches.append(batch)
    end += len(text)
  captions.truncate(end)
  captions.seek(0, os.SEEK_END)
  return batches


def _line(text: bytes) -> dict | None:
  """The object in a line, or None if its end is missing."""
  try:
    return json.loads(text) if text.endswith(b'\n') else None
  except ValueError:
    return None


def _flush(file: IO[bytes]) -> None:
  file.flush()
  os.fsync(file.fileno())


def _to_json(result: sources.Source | str) -> dict | str:
  if isinstance(result, str):
    return result
  value = dataclasses.asdict(result)
  for segment in value['segments']:
    if segment['encoded']:
      segment['encoded'] = [segment['encoded']['offset'], segment['encoded']['size']]
  return value


def _from_json(value: dict | str, clips: pathlib.Path) -> sources.Source | str:
  if isinstance(value, str):
    return value
  return sources.Source(
    **{**value, 'segments': tuple(_segment(fields, clips) for fields in value['segments'])}
  )


def _segment(fields: dict, clips: pathlib.Path) -> sources.Segment:
  return sources.Segment(
    **{
      **fields,
      'scores': fields['scores'] and filters.Scores(**fields['scores']),
      'fault': fields['fault'] and tuple(fields['fault']),
      'encoded': fields['encoded'] and sources.Stored(clips, *fields['encoded']),
    }
  )
