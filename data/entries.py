"""The entries of a file of captions, of any form, and the places of those that can't be read.

It is a UTF-8 file with one JSON object a line (.jsonl), a table whose first line names its columns
(.csv and .tsv, where a quoted cell may have line feeds), or a Parquet file.  Entries are read one
by one, and `captions.parse` checks what they say.
"""

import collections
import csv
import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Iterator, Sequence

from core import unicode
from core.errors import UserError, UserFileError
from data import captions

DELIMITERS = {'.csv': ',', '.tsv': '\t'}
PARQUET, JSON_LINES = '.parquet', '.jsonl'
COLUMNS = 'file, caption or label, and perhaps split and source_video'
BROKEN, ENCODING = 'broken line', 'bad encoding'
_BAD_BYTE = re.compile('[\udc80-\udcff]')  # as Python decodes a byte that is not UTF-8


@dataclasses.dataclass(frozen=True)
class Fault:
  """Why an entry of a manifest can't be used."""

  where: str  # 'line 3', 'row 3', or the name of a sidecar file
  kind: str
  reason: str


# An entry's place, and either the entry or its fault.
Entries = Iterator[tuple[str, object]]


def read(path: pathlib.Path) -> Entries:
  """Each entry of a file with its place.

  ValueError if nothing in it can be read: there is no such file, its name has another ending, it
  is UTF-16, it is damaged Parquet or pyarrow is missing, or a table has no column `file`.
  """
  if not path.is_file():
    raise UserError(
      f'There is no file {path}; --captions is a .jsonl, .csv, .tsv or .parquet file, and is left '
      'out where captions are in .txt or .json files beside the videos.'
    )
  suffix = path.suffix.lower()
  if suffix == PARQUET:
    return _parquet(path)
  if suffix in DELIMITERS:
    return _table(path, DELIMITERS[suffix])
  if suffix == JSON_LINES:
    return _json_lines(path)
  raise UserError(
    f'Got --captions={path}; allowed are files called .jsonl, .csv, .tsv or .parquet.'
  )


def lines(path: pathlib.Path, newline: str = '\n') -> Iterator[str]:
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


def encoding_fault(where: str, text: str) -> Fault | None:
  """The fault of a text of `lines` that has a byte that is not UTF-8, if it has one."""
  if not (match := _BAD_BYTE.search(text)):
    return None
  byte = ord(match[0]) - 0xDC00
  return Fault(where, ENCODING, f'byte 0x{byte:02x} is not UTF-8, but perhaps Windows-1252')


def _json_lines(path: pathlib.Path) -> Entries:
  for number, line in enumerate(lines(path), 1):
    if text := line.strip('\r\n '):
      where = f'line {number}'
      yield where, encoding_fault(where, text) or parsed_json(where, text)


def parsed_json(where: str, text: str) -> object:
  """The value that a text is in JSON, or its fault."""
  try:
    return json.loads(text, object_pairs_hook=_object)
  except UserError as error:
    return Fault(where, BROKEN, str(error))
  except (ValueError, RecursionError) as error:
    return Fault(where, BROKEN, f'no JSON: {error}')


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
  """The object of these keys and values; ValueError if a key is there twice."""
  result = {}
  for key, value in pairs:
    if key in result:
      raise UserError(f'got the key {json.dumps(key)[:40]} twice')
    result[key] = value
  return result


def _table(path: pathlib.Path, delimiter: str) -> Entries:
  rows = _rows(lines(path, newline=''), delimiter)
  _, header = next(rows, (0, []))
  if not isinstance(header, list) or not _names_files(header) or len({*header}) < len(header):
    raise UserError(
      f'{path.name}, line 1: got {header!r}; allowed are names of columns: {COLUMNS}, each once '
      f'and with {delimiter!r} between them{_hint(header, delimiter)}.'
    )
  for number, cells in rows:
    where = f'line {number}'
    if isinstance(cells, csv.Error):
      yield where, Fault(where, BROKEN, f'no row of a table: {cells}')
    elif fault := encoding_fault(where, ''.join(cells)):
      yield where, fault
    elif len(cells) != len(header):
      reason = f'got {len(cells)} cells; the first line has {len(header)}'
      yield where, Fault(where, BROKEN, reason)
    else:
      yield where, {column: cell for column, cell in zip(header, cells) if cell}


def _hint(header: object, delimiter: str) -> str:
  """Which other delimiter the header of a table seems to have, if it seems so."""
  if not isinstance(header, list) or len(header) != 1:
    return ''
  others = (other for other in ';,\t|' if other != delimiter and other in header[0])
  return next((f', but the line has {other!r}' for other in others), '')


def _names_files(columns: Sequence[str]) -> bool:
  return any(captions.NAMED.get(column, column) == 'file' for column in columns)


def _rows(texts: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
  """Each row with the number of its first line.

  After an error, such as a quote that is never closed, reading goes on at the next line.  Only the
  lines of one row are in memory, and a cell has at most `csv.field_size_limit` characters.
  """
  ahead, row, number = collections.deque(), [], 1  # lines to read again, and those of this row

  def following() -> Iterator[str]:
    while ahead or (line := next(texts, None)) is not None:
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
      raise UserError(f'{path.name} has the columns {file.schema_arrow.names}; allowed: {COLUMNS}.')
    names = [n for n in file.schema_arrow.names if n in {*captions.KEYS, *captions.NAMED}]
    number = 0
    for batch in file.iter_batches(columns=names):
      columns = [_values(pyarrow, column) for column in batch.columns]
      for cells in zip(*columns):
        number += 1
        where = f'row {number}'
        text = ''.join(cell for cell in cells if isinstance(cell, str))
        entry = {name: cell for name, cell in zip(batch.schema.names, cells) if cell is not None}
        yield where, encoding_fault(where, text) or entry
  except (pyarrow.ArrowException, OSError) as error:
    raise UserError(f'{path} cannot be read as Parquet: {str(error).splitlines()[0]}') from error


def _values(pyarrow, column) -> list:
  """The cells of a column; Parquet does not check that texts are UTF-8."""
  if not (pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)):
    return column.to_pylist()
  cells = column.cast(pyarrow.large_binary()).to_pylist()
  return [cell if cell is None else cell.decode('utf-8', 'surrogateescape') for cell in cells]
