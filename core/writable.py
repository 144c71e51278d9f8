"""Checks that a command can write its output, which are made before it does any work."""

import contextlib
import errno
import os
import pathlib
import re
import shutil
import tempfile

from core.errors import UserFileError
from core.folder import incomplete_name

PROBE_BYTES = 4096  # written to a temporary file as a test
ADDRESS = re.compile(r'[a-z][a-z0-9+.-]+:')  # the first part of a path such as gs://bucket


def require_file(path: pathlib.Path) -> None:
  """Raises OSError if the file can't be written; nothing is left behind.

  The folder must exist.
  """
  if os.path.isdir(path):
    raise UserFileError(f'Cannot write {path}: {os.strerror(errno.EISDIR)}.')
  _require(path, incomplete_name(path), path.parent)  # the temporary name is longer


def require_folder(path: pathlib.Path) -> None:
  """Raises OSError if no file can be written to the folder; nothing is left behind.

  The folder need not exist yet.  An address such as gs://bucket/run is refused, because it would
  become a local folder called `gs:`.
  """
  if path.parts and ADDRESS.fullmatch(path.parts[0]):
    raise UserFileError(
      f'Cannot write {path}: it is an address; allowed is a folder, which may be mounted.'
    )
  existing = absolute = path.absolute()  # '.' has no name
  while not os.path.lexists(existing) and existing != existing.parent:
    existing = existing.parent
  _require(path, absolute.parent / f'{absolute.name}.incomplete', existing)


def require_room(folder: pathlib.Path, size: int) -> None:
  """Raises OSError if the disk of a folder has fewer than `size` free bytes."""
  total, _, free = shutil.disk_usage(folder)
  if total and size > free:  # network file systems may report 0
    raise UserFileError(
      f'The output takes {size / 2**20:,.1f} MiB, but only {free / 2**20:,.1f} MiB are free.'
    )


def _require(path: pathlib.Path, name: pathlib.Path, folder: pathlib.Path) -> None:
  """Raises OSError unless a file can be written to an existing folder and `name` is valid."""
  try:
    with contextlib.suppress(FileNotFoundError):
      os.lstat(name)
    with tempfile.TemporaryFile(dir=folder) as file:
      file.write(bytes(PROBE_BYTES))
  except OSError as error:
    raise UserFileError(f'Cannot write {path}: {error.strerror or error}.') from error
