"""A mapping and a sequence in temporary files, for what would take too much memory for each clip.

SQLite keeps two megabytes of each in memory and writes the rest to a folder, which `_folder` says.
The files have no name there, so that none is left when a process ends, however it does.
"""

import os
import pickle
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import TypeVar

from core.errors import UserError, UserFileError

Key, Value = TypeVar('Key', str, int), TypeVar('Value')


class Table(MutableMapping[Key, Value]):
  """A mapping from texts or from whole numbers, which iterates in the order of its keys.

  Values are pickled.  A table must not change while it is iterated.  All methods raise a
  UserFileError if the disk is full or fails, and making one a UserError if SQLITE_TMPDIR names
  no folder that can be written.
  """

  def __init__(self, entries: Mapping[Key, Value] | Iterable[tuple[Key, Value]] = ()):
    _require_named()
    self._database = sqlite3.connect('', isolation_level=None)
    self._execute('PRAGMA journal_mode = OFF')
    self._execute('CREATE TABLE t (key PRIMARY KEY, value BLOB) WITHOUT ROWID')
    self._execute('BEGIN')  # and no end: a commit for each entry would take time
    self.update(entries)

  def _execute(self, statement: str, *values) -> sqlite3.Cursor:
    try:
      return self._database.execute(statement, values)
    except sqlite3.OperationalError as error:
      raise _of_disk(error) from error

  def __getitem__(self, key: Key) -> Value:
    row = self._execute('SELECT value FROM t WHERE key = ?', _stored(key)).fetchone()
    if row is None:
      raise KeyError(key)
    return pickle.loads(row[0])

  def __setitem__(self, key: Key, value: Value) -> None:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    self._execute('INSERT OR REPLACE INTO t VALUES (?, ?)', _stored(key), data)

  def __delitem__(self, key: Key) -> None:
    if not self._execute('DELETE FROM t WHERE key = ?', _stored(key)).rowcount:
      raise KeyError(key)

  def __contains__(self, key: object) -> bool:
    return self._execute('SELECT 1 FROM t WHERE key = ?', _stored(key)).fetchone() is not None

  def __iter__(self) -> Iterator[Key]:
    try:
      for (key,) in self._execute('SELECT key FROM t ORDER BY key'):
        yield key.decode('utf-8', 'surrogatepass') if isinstance(key, bytes) else key
    except sqlite3.OperationalError as error:  # pages are read, and others are written for them
      raise _of_disk(error) from error

  def __len__(self) -> int:
    return self._execute('SELECT count(*) FROM t').fetchone()[0]


class Rows(Sequence[Value]):
  """A sequence to which values are appended."""

  def __init__(self, values: Iterable[Value] = ()):
    self._table, self._length = Table(), 0
    for value in values:
      self.append(value)

  def append(self, value: Value) -> None:
    """Adds a value at the end."""
    self._table[self._length] = value
    self._length += 1

  def __getitem__(self, index: int) -> Value:
    if not 0 <= index < self._length:
      raise IndexError(index)
    return self._table[index]

  def __len__(self) -> int:
    return self._length

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, Sequence) or len(self) != len(other):
      return False
    return all(mine == another for mine, another in zip(self, other))

  __hash__ = None


def _stored(key: Key) -> bytes | int:
  # File names may have surrogates.  The order of these bytes is that of the characters.
  return key.encode('utf-8', 'surrogatepass') if isinstance(key, str) else key


def _of_disk(error: sqlite3.OperationalError) -> UserFileError:
  return UserFileError(
    f'Cannot write temporary files to {_folder()}: {error}.  Free space there, or name another '
    'folder by the environment variable SQLITE_TMPDIR.'
  )


def _require_named() -> None:
  """UserError if SQLite would use another folder than SQLITE_TMPDIR, because it cannot write it."""
  if (named := os.environ.get('SQLITE_TMPDIR')) and not _is_writable(named):
    raise UserError(
      f'Got SQLITE_TMPDIR={named} in the environment; allowed is a folder that can be written.'
    )


def _folder() -> str:
  """The folder in which SQLite makes temporary files."""
  named = (os.environ.get('SQLITE_TMPDIR'), os.environ.get('TMPDIR'))
  allowed = (path for path in (*named, '/var/tmp', '/usr/tmp', '/tmp') if path)
  return next(filter(_is_writable, allowed), '.')


def _is_writable(path: str) -> bool:
  return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)
