"""Errors that are the user's to mend: `core/command.py` prints them in one line, without traceback.

A ValueError or OSError of any other class is a defect of this project, and keeps its traceback.
"""


class UserError(ValueError):
  """A value that is not allowed.  The message says what was got and what is allowed."""


class UserFileError(OSError):
  """A file or folder that cannot be read or written.  The message says which, and why."""
