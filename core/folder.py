"""Folders and files that are whole or not there."""

import contextlib
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator

from core import unicode


@contextlib.contextmanager
def new_folder(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder to write to, which gets its name when all went well, and else is gone.

  ValueError where there is something of that name already, or the name is not UTF-8.
  """
  unicode.require_path(out.absolute())
  if out.exists():
    raise ValueError(f'{out} exists already; --out is a new folder.')
  incomplete = out.with_name(out.name + '.incomplete')
  shutil.rmtree(incomplete, ignore_errors=True)  # of one that was killed
  incomplete.mkdir(parents=True)
  try:
    yield incomplete
    incomplete.rename(out)
  finally:
    shutil.rmtree(incomplete, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A name in the same folder to write to, which takes the place of `path` when all went well, and
  else is gone; OSError where that can't be written."""
  # Not of the process alone: hosts share disks.
  incomplete = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.part')
  try:
    yield incomplete
    os.replace(incomplete, path)
  except OSError as error:
    raise OSError(f'Cannot write {path}: {error.strerror or error}.') from error
  finally:
    with contextlib.suppress(OSError):  # which would hide why nothing was written
      incomplete.unlink()
