"""A mapping and a sequence in temporary files, for what would take too much memory for each clip.

SQLite keeps two megabytes of each in memory and writes the rest to the folder that SQLITE_TMPDIR
names, by default /var/tmp.  The files have no name there, so that none is left when a process ends,
however it does.
"""

import pickle
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import TypeVar

Key, Value = TypeVar('Key', str, int), TypeVar('Value')


class Table(MutableMapping[Key, Value]):
  """A mapping from texts or from whole numbers, which iterates in the order of its keys.

  Values are pickled.  A table must not change while it is iterated.
  """

  def __init__(self, entries: Mapping[Key, Value] | Iterable[tuple[Key, Value]] = ()):
    self._database = sqlite3.connect('', isolation_level=None)
    self._database.execute('PRAGMA journal_mode = OFF')
    self._database.execute('CREATE TABLE t (key PRIMARY KEY, value BLOB) WITHOUT ROWID')
    self._database.execute('BEGIN')  # and no end: a commit for each entry would take time
    self.update(entries)

  def __getitem__(self, key: Key) -> Value:
    row = self._database.execute('SELECT value FROM t WHERE key = ?', (_stored(key),)).fetchone()
    if row is None:
      raise KeyError(key)
    return pickle.loads(row[0])

  def __setitem__(self, key: Key, value: Value) -> None:
    row = _stored(key), pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    self._database.execute('INSERT OR REPLACE INTO t VALUES (?, ?)', row)

  def __delitem__(self, key: Key) -> None:
    if not self._database.execute('DELETE FROM t WHERE key = ?', (_stored(key),)).rowcount:
      raise KeyError(key)

  def __contains__(self, key: object) -> bool:
    rows = self._database.execute('SELECT 1 FROM t WHERE key = ?', (_stored(key),))
    return rows.fetchone() is not None

  def __iter__(self) -> Iterator[Key]:
    for (key,) in self._database.execute('SELECT key FROM t ORDER BY key'):
      yield key.decode('utf-8', 'surrogatepass') if isinstance(key, bytes) else key

  def __len__(self) -> int:
    return self._database.execute('SELECT count(*) FROM t').fetchone()[0]


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
