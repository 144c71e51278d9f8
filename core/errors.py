"""Errors for a user's mistakes: `core/command.py` prints their message without a traceback.

Any other ValueError or OSError is a bug of this project, and keeps its traceback.
"""


class UserError(ValueError):
  """A value that is not allowed.  The message says what was got and what is allowed."""


class Advice(str):
  """A note on an error (`add_note`) that is for users: it is printed after the error's message.

  Other notes, such as those of JAX, are only in tracebacks.
  """


class UserFileError(OSError):
  """A file or folder that cannot be read or written.  The message says which, and why."""
