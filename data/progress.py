"""The work of a build that is not finished, in a folder beside its output, to be continued.

`results.jsonl` gets a line for each file that is done, `clips.bin` the clips that were encoded, and
`captions.jsonl` a line for each batch of captions.  They only grow, and a line is written after its
clips are on the disk.  A process that is killed can therefore spoil nothing but the end, which is
removed when the work is continued.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import IO

from core.errors import Advice, UserError
from core.folder import new_file
from data import filters, sources
from data.on_disk import Table

SETTINGS, RESULTS, CLIPS = 'settings.json', 'results.jsonl', 'clips.bin'
CAPTIONS = 'captions.jsonl'
SYNC = 1.0  # seconds: what is added within this time after a line may be lost by a kill


@dataclasses.dataclass
class Progress:
  """The results so far, by file; the `encoded` of a segment is a `sources.Stored` in them."""

  done: Table[str, sources.Source | str]
  captions: Table[str, list]  # what was added, by `caption_key`
  folder: pathlib.Path
  _results: IO[bytes]
  _clips: IO[bytes]
  _captions: IO[bytes]
  _lines: list[bytes] = dataclasses.field(default_factory=list)  # to be written to `_results`
  _synced: float = -float('inf')  # when lines were last written

  def add_batch(self, batch: dict) -> None:
    """Stores a batch: the `command`, and as many `clips`, by their keys, as `captions`."""
    self._captions.write(json.dumps(batch).encode() + b'\n')
    _flush(self._captions)
    self.captions.update(_captions_of(batch))

  def add(self, file: str, version: list[int], result: sources.Source | str) -> None:
    """Stores the result for a file, whose version is that of `version_of`."""
    if isinstance(result, sources.Source):
      result = dataclasses.replace(result, segments=tuple(map(self._with_stored, result.segments)))
    line = {'file': file, 'version': version, 'result': _to_json(result)}
    self._lines.append(json.dumps(line).encode() + b'\n')
    self.done[file] = result
    if time.monotonic() - self._synced >= SYNC:  # it can take longer than all the rest
      self.sync()

  def sync(self) -> None:
    """Writes what was added to the disk."""
    _flush(self._clips)
    self._results.writelines(self._lines)
    _flush(self._results)
    self._lines.clear()
    self._synced = time.monotonic()

  def _with_stored(self, segment: sources.Segment) -> sources.Segment:
    if segment.encoded is None:
      return segment
    offset = self._clips.seek(0, os.SEEK_END)
    self._clips.write(segment.encoded)
    stored = sources.Stored(str(self._clips.name), offset, len(segment.encoded))
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

  An `Advice` on the error says that it is kept.

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
      _require_same(results, folder / RESULTS)
    except (BlockingIOError, FileNotFoundError) as error:
      raise UserError(f'{folder} is in use: another process is building {out}.') from error
    _require_settings(folder, settings)
    work = Progress(
      _done(videos, results, clips), _given(captions), folder, results, clips, captions
    )
    try:
      try:
        yield work
      finally:
        work.sync()
    except BaseException as error:
      if folder.exists():  # it was not discarded
        error.add_note(Advice(f'The work so far is in {folder}: the same command continues it.'))
      raise
    discard(out)


def discard(out: pathlib.Path) -> None:
  """Removes the progress of a build that is finished, or whose results are of no use.

  To be called in its context, so that no other process works there.
  """
  folder = folder_for(out)
  # Another build may begin in a folder of this name while the files are removed.
  finished = folder.with_name(folder.name + '.finished')
  shutil.rmtree(finished, ignore_errors=True)  # of a command that was killed
  folder.rename(finished)
  shutil.rmtree(finished)


def _require_same(file: IO[bytes], path: pathlib.Path) -> None:
  """Raises FileNotFoundError if the file at this path is another one by now, or none."""
  if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
    raise FileNotFoundError(path)


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


def _done(videos: pathlib.Path, results: IO[bytes], clips: IO[bytes]) -> Table:
  """The results in the files, whose incomplete ends are removed."""
  done, end, clips_end = Table(), 0, 0
  size = os.fstat(clips.fileno()).st_size
  results.seek(0)
  for text in results:
    line = _line(text)
    if line is None:
      break
    result = _from_json(line['result'], str(clips.name))
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


def caption_key(command: str, clip: Sequence[str | float]) -> str:
  """The key of the caption that the command `command` gave for the clip with the key `clip`."""
  return json.dumps([command, *clip])


def _captions_of(batch: dict) -> Iterator[tuple[str, list]]:
  for clip, caption in zip(batch['clips'], batch['captions']):
    yield caption_key(batch['command'], clip), caption


def _given(captions: IO[bytes]) -> Table:
  """The captions in the file, whose incomplete end is removed."""
  given, end = Table(), 0
  captions.seek(0)
  for text in captions:
    if (batch := _line(text)) is None:
      break
    given.update(_captions_of(batch))
    end += len(text)
  captions.truncate(end)
  captions.seek(0, os.SEEK_END)
  return given


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


def _from_json(value: dict | str, clips: str) -> sources.Source | str:
  if isinstance(value, str):
    return value
  return sources.Source(
    **{**value, 'segments': tuple(_segment(fields, clips) for fields in value['segments'])}
  )


def _segment(fields: dict, clips: str) -> sources.Segment:
  return sources.Segment(
    **{
      **fields,
      'scores': fields['scores'] and filters.Scores(**fields['scores']),
      'fault': fields['fault'] and tuple(fields['fault']),
      'encoded': fields['encoded'] and sources.Stored(clips, *fields['encoded']),
    }
  )
