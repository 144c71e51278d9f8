"""Tells mistakes of the user from defects of this project.

`UserError` and `UserFileError` are mistakes of the user, and their messages are written for users.
An OSError of the operating system counts as one too if it concerns a path that the user named, or
if the machine is the reason, as with a full disk.  All other errors are defects.
"""

import errno
import os
import pathlib
from collections.abc import Iterable, Iterator

from core.errors import Advice, UserError, UserFileError
from core.folder import concerns

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The machine is the reason of these errors, wherever they happen.
MACHINE = {errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS, errno.ESTALE}


def message(error: Exception, user_paths: Iterable[pathlib.Path]) -> str:
  """The message to print if the error is a mistake of the user; '' if it is a defect.

  user_paths: the paths that the user named.

  If an error was raised from another one, that one is looked at too.
  """
  if isinstance(error, UserError | UserFileError):
    return str(error)
  for cause in _causes(error):
    if isinstance(cause, OSError) and cause.errno is not None:
      path, reason = _path(cause), cause.strerror or os.strerror(cause.errno)
      if path and any(concerns(user_path, path) for user_path in user_paths):
        return f'{path}: {reason}.'
      if cause.errno in MACHINE:
        return f'{path}: {reason}.' if path else f'{reason}.'
  return ''


def advice(error: BaseException) -> str:
  """Each `Advice` on an error, and on those that were handled when it was raised, after a space;
  '' if there is none."""
  texts, seen = [], []
  while error is not None and error not in seen:
    seen.append(error)
    texts += [note for note in getattr(error, '__notes__', ()) if isinstance(note, Advice)]
    error = error.__cause__ or error.__context__
  return ''.join(f' {text}' for text in texts)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  """The error, and the errors that it was raised from (`raise ... from`).

  An error that was only being handled at the time is left out: the handler may have a defect.
  """
  while error is not None:
    yield error
    error = error.__cause__


def _path(error: OSError) -> pathlib.Path | None:
  """The path of an error of the operating system, if it has one."""
  name = error.filename
  return pathlib.Path(os.fsdecode(name)) if isinstance(name, str | bytes) and name else None
