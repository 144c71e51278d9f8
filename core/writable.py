"""Whether a command can write what it is asked for, found out before it does any work."""

import contextlib
import errno
import os
import pathlib
import re
import shutil
import tempfile

from core.errors import UserFileError
from core.folder import incomplete_name

ROOM = 4096  # bytes that are written to find out
ADDRESS = re.compile(r'[a-z][a-z0-9+.-]+:')  # what a path begins with, where there was ://


def require_file(path: pathlib.Path) -> None:
  """Raises OSError where no file of this name can be written; nothing is left behind.

  Its folder has to be there.
  """
  if os.path.isdir(path):
    raise UserFileError(f'Cannot write {path}: {os.strerror(errno.EISDIR)}.')
  _require(path, incomplete_name(path), path.parent)  # which is longer


def require_folder(path: pathlib.Path) -> None:
  """Raises OSError where no file can be written to the folder, which need not be there yet; nothing
  is left behind.

  An address, as gs://bucket/run, would else be a folder called `gs:` here, which others do not see.
  """
  if path.parts and ADDRESS.fullmatch(path.parts[0]):
    raise UserFileError(
      f'Cannot write {path}: it is an address; allowed is a folder, also a mounted one.'
    )
  there = whole = path.absolute()  # a dot has no name
  while not os.path.lexists(there) and there != there.parent:
    there = there.parent
  _require(path, whole.parent / f'{whole.name}.incomplete', there)


def require_room(folder: pathlib.Path, size: int) -> None:
  """Raises OSError where so many bytes are not free on the disk of a folder."""
  total, _, free = shutil.disk_usage(folder)
  if total and size > free:  # file systems of networks may not know
    raise UserFileError(
      f'What is to be written takes {size / 2**20:,.1f} MiB, and {free / 2**20:,.1f} MiB are free '
      'there.'
    )


def _require(path: pathlib.Path, name: pathlib.Path, folder: pathlib.Path) -> None:
  """The same of a folder that is there, and of a name in it or below it that may be too long."""
  try:
    with contextlib.suppress(FileNotFoundError):
      os.lstat(name)
    with tempfile.TemporaryFile(dir=folder) as file:
      file.write(bytes(ROOM))
  except OSError as error:
    raise UserFileError(f'Cannot write {path}: {error.strerror or error}.') from error
