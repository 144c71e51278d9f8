"""What TFDS does otherwise while it writes a dataset, so that it takes no memory and the same bits.

TFDS sorts records by their keys in memory.  Those of a dataset whose records have an order are all
in one list then, and a dataset of more than a gigabyte is read into memory as a whole.
"""

import contextlib
import os
import pathlib
import struct
import tempfile
from collections.abc import Iterator
from unittest import mock

from tensorflow_datasets.core import example_serializer, shuffle

_LENGTH = struct.Struct('<Q')


class _InOrder:
  """`shuffle.Shuffler` of records that are added in the order of their keys."""

  def __init__(self, dirpath: os.PathLike, *unused, **unused_too):
    pathlib.Path(dirpath).mkdir(parents=True, exist_ok=True)
    self._file = tempfile.TemporaryFile(dir=dirpath)  # it has no name, and is nowhere afterwards
    self.size = self.num_examples = 0

  @property
  def bucket_lengths(self) -> list[int]:
    """The number of records in each temporary file."""
    return [self.num_examples]

  def add(self, key: int, data: bytes) -> None:
    """Adds a record."""
    self._file.write(_LENGTH.pack(len(data)) + data)
    self.size += len(data)
    self.num_examples += 1

  def __iter__(self) -> Iterator[tuple[int, bytes]]:
    self._file.seek(0)
    for key in range(self.num_examples):
      [length] = _LENGTH.unpack(self._file.read(_LENGTH.size))
      yield key, self._file.read(length)
    self._file.close()


def _serialize(self, example) -> bytes:
  # Protobuf's own order of the features in a record changes from process to process.
  return self.get_tf_example(example).SerializeToString(deterministic=True)


@contextlib.contextmanager
def in_order() -> Iterator[None]:
  """A context in which TFDS writes records in the order of their keys, and equal ones equally."""
  serializer = example_serializer.ExampleSerializer
  with (
    mock.patch.object(serializer, 'serialize_example', _serialize),
    mock.patch.object(shuffle, 'Shuffler', _InOrder),
  ):
    yield
