"""Manifests: which videos have which captions, in a file or in small files beside the videos.

The forms of the file are those of `data.entries`, and its keys or columns those of
`captions.parse`.  Without a manifest, the caption of `clip.mp4` is the text of `clip.txt` or an
object in `clip.json`; `data.folders` reads other layouts.

An entry that can't be used is a `Fault` with its place; the others are used.  Neither the file nor
its lines are in memory.
"""

import dataclasses
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence

from core import files, unicode
from core.errors import UserError
from data import captions, entries
from data.entries import Fault
from data.on_disk import Rows, Table

SIDECARS = ('.json', '.txt')
DUPLICATE = 'duplicate'
# The other kinds of faults, by the reason why `captions.match` can't use a line.
UNUSABLE = {captions.MISSING: 'missing file', captions.BLANK: 'no caption'}
ALLOWED = (
  'allowed is one entry for each file, with texts "file", "caption" or "label" and perhaps '
  '"split" and "source_video", or null in place of any but "file"'
)


@dataclasses.dataclass(frozen=True)
class Manifest:
  """The lines of a manifest by the path of the video, relative to the folder of videos."""

  lines: Mapping[str, captions.Line]
  faults: Sequence[Fault] = ()
  name: str = 'the captions'
  sidecars: Collection[str] = ()  # files with captions in the folder of videos
  unlisted: str = captions.UNLISTED  # why a file without a line can't be used


def read(path: pathlib.Path, videos: pathlib.Path | None = None) -> Manifest:
  """The manifest in a file.

  videos: the folder of videos, in which the file may be.

  ValueError if nothing in it can be read: there is no such file, it is UTF-16, it is damaged
  Parquet or pyarrow is missing, or a table has no column `file`.  The first of several entries for
  one file is used, and the others are faults.
  """
  is_inside = videos and path.resolve().is_relative_to(videos.resolve())
  own = {path.resolve().relative_to(videos.resolve()).as_posix()} if is_inside else ()
  return dataclasses.replace(_collected(entries.read(path)), name=path.name, sidecars=own)


def beside(videos: pathlib.Path) -> Manifest:
  """The captions in files beside the videos: for `a/clip.mp4`, in `a/clip.txt` or `a/clip.json`.

  The .txt file has the caption, the .json file an object as in `captions.parse` without `file`.
  If several files have the same one, they have one source video.
  """
  if not videos.is_dir():
    raise UserError(f'There is no folder {videos}; --videos is a folder of video files.')
  sidecars, by_stem = Table(), Table()
  for file in files.below(videos, lambda folder, error: None):  # `captions.match` reports it
    if pathlib.PurePath(file).suffix in SIDECARS:
      sidecars[file] = None
    else:
      by_stem[_stem(file)] = sorted([*by_stem.get(_stem(file), ()), file])
  lines, faults = Table(), Rows()
  for sidecar in sidecars:
    named = by_stem.get(_stem(sidecar), ())
    place = unicode.escaped(sidecar)
    if not named:
      faults.append(Fault(place, UNUSABLE[captions.MISSING], 'no video of the same name'))
    elif named[0] in lines:  # by the .json file, which comes first
      faults.append(Fault(place, DUPLICATE, 'the .json file has the caption already'))
    else:
      entry = _sidecar(videos / sidecar, place)
      # Perhaps a video and its picture.
      shared = {'source_video': unicode.escaped(_stem(sidecar))} if len(named) > 1 else {}
      for file in named:
        of_file = {**shared, **entry, 'file': file} if isinstance(entry, dict) else entry
        if fault := _add(lines, place, of_file):
          faults.append(fault)
          break  # it is that of the others, too
  return Manifest(lines, faults, 'files beside the videos', sidecars, captions.ALONE)


def _stem(file: str) -> str:
  return str(pathlib.PurePosixPath(file).with_suffix(''))


def unusable(lines: Mapping[str, captions.Line], reasons: Mapping[str, str]) -> Iterator[Fault]:
  """The faults of the lines that `captions.match` can't use, in the order of `lines`."""
  for file, line in lines.items():
    if file in reasons:
      kind = UNUSABLE.get(reasons[file], DUPLICATE)
      yield Fault(line.where, kind, f'{unicode.escaped(file)}: {reasons[file]}')


def require_none(faults: Sequence[Fault], name: str) -> None:
  """Raises ValueError with the first fault of the manifest called `name`, if there is one."""
  if faults:
    more = f' ({len(faults) - 1} more lines are wrong)' if len(faults) > 1 else ''
    raise UserError(f'{name}, {faults[0].where}: {faults[0].reason}; {ALLOWED}{more}.')


def _collected(listed: entries.Entries) -> Manifest:
  lines, faults = Table(), Rows()
  for where, entry in listed:
    if fault := _add(lines, where, entry):
      faults.append(fault)
  return Manifest(lines, faults)


def _add(lines: Table[str, captions.Line], where: str, entry: object) -> Fault | None:
  """Adds an entry to the lines, or returns why it can't be used."""
  if isinstance(entry, Fault):
    return entry
  try:
    file, line = captions.parse(entry, where)
  except ValueError as error:
    return Fault(where, entries.BROKEN, str(error))
  if file in lines:
    return Fault(where, DUPLICATE, f'another line for {file!r}, which {lines[file].where} has')
  lines[file] = line
  return None


def _sidecar(path: pathlib.Path, place: str) -> object:
  try:
    text = ''.join(entries.lines(path))
  except (ValueError, OSError) as error:
    return Fault(place, entries.ENCODING, str(error))
  if fault := entries.encoding_fault(place, text):
    return fault
  return entries.parsed_json(place, text) if path.suffix == '.json' else {'caption': text.strip()}
