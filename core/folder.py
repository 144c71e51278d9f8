"""Folders and files that are written atomically: completely or not at all, even if power fails."""

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
  """Yields a folder to write to, which is renamed to `out` on success and removed on failure.

  replace: whether to replace an existing folder `out`, which stays until the new one is complete.

  ValueError if `out` exists and `replace` is not set, or if its name is not UTF-8; OSError if the
  folder can't be written.
  """
  out = out.absolute()  # '.' has no name to which an ending could be added
  unicode.require_path(out)
  incomplete, old = (out.with_name(out.name + end) for end in ('.incomplete', '.replaced'))
  if replace:
    _finish_replacing(out, old)  # for a command that was killed
  elif out.exists():
    raise UserError(f'{out} exists already; --out is a new folder.')
  new_parents = [parent for parent in out.parents if not parent.exists()]
  try:
    with _errors_of(out):
      shutil.rmtree(incomplete, ignore_errors=True)  # from a command that was killed
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
      _finish_replacing(out, old)
    for parent in new_parents:
      with contextlib.suppress(OSError):  # a folder with `out` in it is not empty
        parent.rmdir()


def _finish_replacing(out: pathlib.Path, old: pathlib.Path) -> None:
  """Removes the replaced folder if `out` exists, and else renames it back to `out`."""
  if out.exists():
    shutil.rmtree(old, ignore_errors=True)
  elif old.exists():
    old.rename(out)


@contextlib.contextmanager
def new_file(path: pathlib.Path, *, sync: bool = True) -> Iterator[pathlib.Path]:
  """Yields a temporary path to write to; it replaces `path` on success and is removed on failure.

  sync: whether to flush the file to disk before it is renamed, which files that can be computed
    again don't need.  If set, files that killed processes of this host left for the same `path` are
    removed first.

  OSError if `path` can't be written.
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
    with contextlib.suppress(OSError):  # it would hide the original error
      incomplete.unlink()


def incomplete_name(path: pathlib.Path) -> pathlib.Path:
  """A new temporary path for the next version of `path`, with the host and process in its name."""
  owner = f'{_host()}.{os.getpid()}'
  return path.with_name(f'.{path.name}.{owner}.{secrets.token_hex(4)}.part')


def _remove_abandoned(path: pathlib.Path) -> None:
  # Hosts that share the disk, and other processes, may be writing the same file now.
  pattern = re.compile(rf'\.{re.escape(path.name)}\.{_host()}\.(\d+)\.[0-9a-f]+\.part')
  for file in path.parent.glob(f'.{glob.escape(path.name)}.*.part'):
    if (match := pattern.fullmatch(file.name)) and not psutil.pid_exists(int(match[1])):
      file.unlink(missing_ok=True)


def _host() -> str:
  return f'{zlib.crc32(socket.gethostname().encode()):08x}'


def sweep(folder: pathlib.Path) -> None:
  """Removes temporary files that killed processes left in a folder.  No process may write there."""
  for path in folder.glob('.*.part'):
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _errors_of(path: pathlib.Path) -> Iterator[None]:
  """Turns an error of the disk about `path` into a UserFileError; other errors are unchanged."""
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
  """The system's message for a full or read-only disk, if a library's error contains it, or ''.

  TensorStore, Riegeli and safetensors write files in C++ or Rust, and do not raise OSError.
  """
  text = f'{error} {error.__cause__ or error.__context__ or ""}'
  return next((message for message in map(os.strerror, _FULL) if message in text), '')


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def concerns(path: pathlib.Path, file: pathlib.Path) -> bool:
  """Whether a file is `path`, is inside it, contains it, or belongs to its temporary version."""
  path, file = path.absolute(), file.absolute()
  prefixes = f'{path.name}.', f'.{path.name}.'  # of temporary names
  beside = (
    one.parent == path.parent and one.name.startswith(prefixes) for one in (file, *file.parents)
  )
  return path.is_relative_to(file) or file.is_relative_to(path) or any(beside)


def _sync(path: pathlib.Path) -> None:
  """Waits until the contents of a file, or the entries of a folder, are on the disk."""
  folder = path.is_dir()
  with contextlib.suppress(OSError) if folder else contextlib.nullcontext():
    # Some file systems do not support it for folders.
    file = os.open(path, os.O_RDONLY)
    try:
      os.fsync(file)
    finally:
      os.close(file)
