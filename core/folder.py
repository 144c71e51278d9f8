"""Folders and files that are whole or not there, also after the power has failed."""

import contextlib
import errno
import glob
import os
import pathlib
import re
import secrets
import shutil
import socket
import zlib
from collections.abc import Iterator

import psutil

from core import unicode
from core.errors import UserError, UserFileError


@contextlib.contextmanager
def new_folder(out: pathlib.Path, *, replace: bool = False) -> Iterator[pathlib.Path]:
  """A folder to write to, which gets its name when all went well, and else is gone.

  replace: whether it takes the place of a folder of that name, which stays until then.

  ValueError where there is something of that name already and `replace` is not set, or the name is
  not UTF-8; OSError where the folder can't be written.
  """
  out = out.absolute()  # a dot has no name, beside which another could be made
  unicode.require_path(out)
  incomplete, old = (out.with_name(out.name + end) for end in ('.incomplete', '.replaced'))
  if replace:
    _settle(out, old)  # of a command that was killed
  elif out.exists():
    raise UserError(f'{out} exists already; --out is a new folder.')
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
    often, need not be.  Else what processes of this host that were killed had begun to write in
    its place is removed first.
  """
  incomplete = incomplete_name(path)
  try:
    with _errors_of(path):
      if sync:
        _remove_abandoned(path)
      yield incomplete
      if sync:
        _sync(incomplete)
      os.replace(incomplete, path)
      if sync:
        _sync(path.parent)
  finally:
    with contextlib.suppress(OSError):  # which would hide why nothing was written
      incomplete.unlink()


def incomplete_name(path: pathlib.Path) -> pathlib.Path:
  """A new name for what is to take the place of a file: it says the host and the process."""
  owner = f'{_host()}.{os.getpid()}'
  return path.with_name(f'.{path.name}.{owner}.{secrets.token_hex(4)}.part')


def _remove_abandoned(path: pathlib.Path) -> None:
  # Other hosts, which share disks, and other processes may be writing the same file now.
  pattern = re.compile(rf'\.{re.escape(path.name)}\.{_host()}\.(\d+)\.[0-9a-f]+\.part')
  for file in path.parent.glob(f'.{glob.escape(path.name)}.*.part'):
    if (found := pattern.fullmatch(file.name)) and not psutil.pid_exists(int(found[1])):
      file.unlink(missing_ok=True)


def _host() -> str:
  return f'{zlib.crc32(socket.gethostname().encode()):08x}'


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
    other = error.filename and not concerns(path, pathlib.Path(os.fsdecode(error.filename)))
    if error.errno is None or other:
      raise
    raise UserFileError(f'Cannot write {path}: {error.strerror or error}.') from error
  except Exception as error:
    if not (reason := _reason(error)):
      raise
    raise UserFileError(f'Cannot write {path}: {reason}.') from error


def _reason(error: BaseException) -> str:
  """Why the disk took no more, in the words of the system, where an error of a library has them.

  TensorStore, Riegeli and safetensors write by themselves, and raise no OSError.
  """
  text = f'{error} {error.__cause__ or error.__context__ or ""}'
  return next((words for words in map(os.strerror, _FULL) if words in text), '')


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def concerns(path: pathlib.Path, file: pathlib.Path) -> bool:
  """Whether a file is the path, lies in it, leads to it, or is a part of what is to take its
  place."""
  path, file = path.absolute(), file.absolute()
  first = f'{path.name}.', f'.{path.name}.'  # as names of what is not whole yet begin
  beside = (
    one.parent == path.parent and one.name.startswith(first) for one in (file, *file.parents)
  )
  return path.is_relative_to(file) or file.is_relative_to(path) or any(beside)


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
