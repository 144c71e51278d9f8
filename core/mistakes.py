"""Which errors are the user's, and which are defects of this project.

A `UserError` and a `UserFileError` are the user's: their messages are written to be read.  An
OSError of the operating system is the user's too, whoever called it, where it is about a path that
the user named, or where the machine fails, as a disk does that is full.  All others are defects.
"""

import errno
import os
import pathlib
from collections.abc import Iterable, Iterator

from core.errors import UserError, UserFileError
from core.folder import concerns

ROOT = pathlib.Path(__file__).resolve().parent.parent
# No code can help these, wherever they happen.
MACHINE = {errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS, errno.ESTALE}


def message(error: Exception, named: Iterable[pathlib.Path]) -> str:
  """What is said to the user of an error of theirs; '' of a defect.

  named: the paths that the user gave.

  Where an error was raised from another, that other one counts too.
  """
  if isinstance(error, UserError | UserFileError):
    return str(error)
  for one in _causes(error):
    if isinstance(one, OSError) and one.errno is not None:
      path, reason = _path(one), one.strerror or os.strerror(one.errno)
      if path and any(concerns(other, path) for other in named):
        return f'{path}: {reason}.'
      if one.errno in MACHINE:
        return f'{path}: {reason}.' if path else f'{reason}.'
  return ''


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  """The error, and those it was raised from.

  Not those during whose handling it was raised: that may be a defect in what handles them.
  """
  while error is not None:
    yield error
    error = error.__cause__


def _path(error: OSError) -> pathlib.Path | None:
  """The path that the operating system refused, if the error says it."""
  name = error.filename
  return pathlib.Path(os.fsdecode(name)) if isinstance(name, str | bytes) and name else None
