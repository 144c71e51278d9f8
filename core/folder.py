"""Folders and files that are whole or not there, also after the power has failed."""

import contextlib
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator

from core import unicode


@contextlib.contextmanager
def new_folder(out: pathlib.Path, *, replace: bool = False) -> Iterator[pathlib.Path]:
  """A folder to write to, which gets its name when all went well, and else is gone.

  replace: whether it takes the place of a folder of that name, which stays until then.

  ValueError where there is something of that name already and `replace` is not set, or the name is
  not UTF-8; OSError where the folder can't be written.
  """
  unicode.require_path(out.absolute())
  incomplete, old = (out.with_name(out.name + end) for end in ('.incomplete', '.replaced'))
  if replace:
    _settle(out, old)  # of a command that was killed
  elif out.exists():
    raise ValueError(f'{out} exists already; --out is a new folder.')
  made = [parent for parent in out.parents if not parent.exists()]
  try:
    with _errors_of(out):
      shutil.rmtree(incomplete, ignore_errors=True)  # of one that was killed
      incomplete.mkdir(parents=True)
      yield incomplete
      for path in (*incomplete.rglob('*'), incomplete):
        _sync(path)
      if replace and out.exists():
        out.rename(old)
      incomplete.rename(out)
      _sync(out.parent)
  finally:
    shutil.rmtree(incomplete, ignore_errors=True)
    if replace:
      _settle(out, old)
    for parent in made:
      with contextlib.suppress(OSError):  # it is not empty: the folder is there
        parent.rmdir()


def _settle(out: pathlib.Path, old: pathlib.Path) -> None:
  """Removes the folder that was replaced, or gives it its name back where nothing took it."""
  if out.exists():
    shutil.rmtree(old, ignore_errors=True)
  elif old.exists():
    old.rename(out)


@contextlib.contextmanager
def new_file(path: pathlib.Path, *, sync: bool = True) -> Iterator[pathlib.Path]:
  """A name in the same folder to write to, which takes the place of `path` when all went well, and
  else is gone; OSError where that can't be written.

  sync: whether it is on the disk before it has its name.  What can be made again, and is written
    often, need not be.
  """
  # Not of the process alone: hosts share disks.
  incomplete = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.part')
  try:
    with _errors_of(path):
      yield incomplete
      if sync:
        _sync(incomplete)
      os.replace(incomplete, path)
      if sync:
        _sync(path.parent)
  finally:
    with contextlib.suppress(OSError):  # which would hide why nothing was written
      incomplete.unlink()


def sweep(folder: pathlib.Path) -> None:
  """Removes what `new_file` left in a folder when it was killed.  Nobody may be writing there."""
  for path in folder.glob('.*.part'):
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _errors_of(path: pathlib.Path) -> Iterator[None]:
  """Names the path in errors of the disk; those about other files, and our own, stay."""
  try:
    yield
  except OSError as error:
    other = error.filename and not _concerns(path, pathlib.Path(os.fsdecode(error.filename)))
    if error.errno is None or other:
      raise
    raise OSError(f'Cannot write {path}: {error.strerror or error}.') from error


def _concerns(path: pathlib.Path, file: pathlib.Path) -> bool:
  """Whether a file is a part of what is written to the path, or a folder that it is in."""
  path, file = path.absolute(), file.absolute()
  ours = (one.parent == path.parent and path.name in one.name for one in (file, *file.parents))
  return path.is_relative_to(file) or any(ours)


def _sync(path: pathlib.Path) -> None:
  """Waits until a file, or the names in a folder, are on the disk."""
  folder = path.is_dir()
  with contextlib.suppress(OSError) if folder else contextlib.nullcontext():
    # Not every file system does that for folders.
    file = os.open(path, os.O_RDONLY)
    try:
      os.fsync(file)
    finally:
      os.close(file)
