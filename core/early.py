"""Handles Ctrl-C while a command imports its libraries: it prints one line and exits with 130.

A script imports this module first.  It does nothing in tests and worker processes.
"""

import os
import signal
import sys

_STATUS = 130


def _end(number, frame):
  print('error: interrupted.', file=sys.stderr, flush=True)
  os._exit(_STATUS)


def _is_command() -> bool:
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  file = os.path.abspath(getattr(sys.modules['__main__'], '__file__', None) or os.sep)
  return file.startswith(root + os.sep) and not file.startswith(os.path.join(root, '.venv', ''))


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
  signal.signal(signal.SIGINT, _end)
