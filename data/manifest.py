"""Manifests: which videos have which captions, in a file or in small files beside the videos.

A manifest is a UTF-8 file with one JSON object a line (.jsonl), a table whose first line names its
columns (.csv and .tsv, where a quoted cell may have line feeds), or a Parquet file.  Its keys or
columns are those of `captions.parse`.  Without a manifest, the caption of `clip.mp4` is the text of
`clip.txt` or an object in `clip.json`; `data.folders` reads other layouts.

An entry that can't be used is a `Fault` with its place; the others are used.  Neither the file nor
its lines are in memory.
"""

import collections
import csv
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from core import files, unicode
from core.errors import UserError, UserFileError
from data import captions
from data.on_disk import Rows, Table

DELIMITERS = {'.csv': ',', '.tsv': '\t'}
PARQUET = '.parquet'
SIDECARS = ('.json', '.txt')
BROKEN, ENCODING, DUPLICATE = 'broken line', 'bad encoding', 'duplicate'
# The other kinds of faults, by the reason why `captions.match` can't use a line.
UNUSABLE = {captions.MISSING: 'missing file', captions.BLANK: 'no caption'}
ALLOWED = (
  'allowed is one entry for each file, with texts "file", "caption" or "label" and perhaps '
  '"split" and "source_video", or null in place of any but "file"'
)
_BAD_BYTE = re.compile('[\udc80-\udcff]')  # as Python decodes a byte that is not UTF-8


@dataclasses.dataclass(frozen=True)
class Fault:
  """Why an entry of a manifest can't be used."""

  where: str  # 'line 3', 'row 3', or the name of a sidecar file
  kind: str
  reason: str


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
  if not path.is_file():
    raise UserError(
      f'There is no file {path}; --captions is a .jsonl, .csv, .tsv or .parquet file, and is left '
      'out where captions are in .txt or .json files beside the videos.'
    )
  suffix = path.suffix.lower()
  if suffix == PARQUET:
    entries = _parquet(path)
  elif suffix in DELIMITERS:
    entries = _table(path, DELIMITERS[suffix])
  else:
    entries = _json_lines(path)
  is_inside = videos and path.resolve().is_relative_to(videos.resolve())
  own = {path.resolve().relative_to(videos.resolve()).as_posix()} if is_inside else ()
  return dataclasses.replace(_collected(entries), name=path.name, sidecars=own)


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


# An entry's place, and either the entry or its fault.
Entries = Iterator[tuple[str, object]]


def _collected(entries: Entries) -> Manifest:
  lines, faults = Table(), Rows()
  for where, entry in entries:
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
    return Fault(where, BROKEN, str(error))
  if file in lines:
    return Fault(where, DUPLICATE, f'another line for {file!r}, which {lines[file].where} has')
  lines[file] = line
  return None


def _lines(path: pathlib.Path, newline: str = '\n') -> Iterator[str]:
  """The lines of a file with their ends, with a surrogate for each byte that is not UTF-8.

  newline: as in `open`.
  """
  try:
    with path.open('rb') as file:
      if unicode.is_utf_16(file.peek(4)):
        raise UserError(f'{path.name}, it is UTF-16, or not text; allowed is UTF-8.')
      yield from io.TextIOWrapper(file, 'utf-8-sig', 'surrogateescape', newline)
  except OSError as error:
    raise UserFileError(f'Cannot read {path}: {error.strerror or error}.') from error


def _encoding_fault(where: str, text: str) -> Fault | None:
  if not (match := _BAD_BYTE.search(text)):
    return None
  byte = ord(match[0]) - 0xDC00
  return Fault(where, ENCODING, f'byte 0x{byte:02x} is not UTF-8, but perhaps Windows-1252')


def _json_lines(path: pathlib.Path) -> Entries:
  for number, line in enumerate(_lines(path), 1):
    if text := line.strip('\r\n '):
      where = f'line {number}'
      yield where, _encoding_fault(where, text) or _json(where, text)


def _json(where: str, text: str) -> object:
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    return Fault(where, BROKEN, f'no JSON: {error}')


def _table(path: pathlib.Path, delimiter: str) -> Entries:
  rows = _rows(_lines(path, newline=''), delimiter)
  _, header = next(rows, (0, []))
  if not isinstance(header, list) or not _names_files(header) or len({*header}) < len(header):
    raise UserError(f'{path.name}, line 1: got {header!r}; allowed are names of columns: file, ...')
  for number, cells in rows:
    where = f'line {number}'
    if isinstance(cells, csv.Error):
      yield where, Fault(where, BROKEN, f'no row of a table: {cells}')
    elif fault := _encoding_fault(where, ''.join(cells)):
      yield where, fault
    elif len(cells) != len(header):
      reason = f'got {len(cells)} cells; the first line has {len(header)}'
      yield where, Fault(where, BROKEN, reason)
    else:
      yield where, {column: cell for column, cell in zip(header, cells) if cell}


def _names_files(columns: Sequence[str]) -> bool:
  return any(captions.NAMED.get(column, column) == 'file' for column in columns)


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
  """Each row with the number of its first line.

  After an error, such as a quote that is never closed, reading goes on at the next line.  Only the
  lines of one row are in memory, and a cell has at most `csv.field_size_limit` characters.
  """
  ahead, row, number = collections.deque(), [], 1  # lines to read again, and those of this row

  def following() -> Iterator[str]:
    while ahead or (line := next(lines, None)) is not None:
      row.append(ahead.popleft() if ahead else line)
      yield row[-1]

  while True:
    try:
      for cells in csv.reader(following(), delimiter=delimiter, strict=True):
        if cells:
          yield number, cells
        number += len(row)
        row.clear()
      return
    except csv.Error as error:
      yield number, error
      ahead.extendleft(reversed(row[1:]))
      number += 1
      row.clear()


def _parquet(path: pathlib.Path) -> Entries:
  try:
    import pyarrow
    from pyarrow import parquet
  except ModuleNotFoundError as error:
    raise UserError(
      f'To read {path} a package is needed: pip install -r requirements-data.txt'
    ) from error
  try:
    file = parquet.ParquetFile(path)
    if not _names_files(file.schema_arrow.names):
      raise UserError(f'{path.name} has the columns {file.schema_arrow.names}; allowed: file, ...')
    names = [n for n in file.schema_arrow.names if n in {*captions.KEYS, *captions.NAMED}]
    number = 0
    for batch in file.iter_batches(columns=names):
      columns = [_values(pyarrow, column) for column in batch.columns]
      for cells in zip(*columns):
        number += 1
        where = f'row {number}'
        text = ''.join(cell for cell in cells if isinstance(cell, str))
        entry = {name: cell for name, cell in zip(batch.schema.names, cells) if cell is not None}
        yield where, _encoding_fault(where, text) or entry
  except (pyarrow.ArrowException, OSError) as error:
    raise UserError(f'{path} cannot be read as Parquet: {str(error).splitlines()[0]}') from error


def _values(pyarrow, column) -> list:
  """The cells of a column; Parquet does not check that texts are UTF-8."""
  if not (pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)):
    return column.to_pylist()
  cells = column.cast(pyarrow.large_binary()).to_pylist()
  return [cell if cell is None else cell.decode('utf-8', 'surrogateescape') for cell in cells]


def _sidecar(path: pathlib.Path, place: str) -> object:
  try:
    text = ''.join(_lines(path))
  except (ValueError, OSError) as error:
    return Fault(place, ENCODING, str(error))
  if fault := _encoding_fault(place, text):
    return fault
  return _json(place, text) if path.suffix == '.json' else {'caption': text.strip()}
