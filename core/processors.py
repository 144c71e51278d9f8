"""The processors of this machine."""

import os


def available() -> int:
  """The number of processors that this process may use, of which a job may have only some."""
  if hasattr(os, 'sched_getaffinity'):  # not on macOS; os.process_cpu_count is of Python 3.13
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
