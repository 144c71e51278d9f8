import ctypes
import os
import pathlib

import numpy as np
import pytest

from data import processes


def one(job):
  """The square of a number; others than numbers are calls that go wrong."""
  match job:
    case 'abort':
      os.abort()
    case 'hang':
      ctypes.PyDLL(None).sleep(1000)  # in C, with the interpreter's lock
    case 'allocate':
      try:
        return np.ones(2 * processes.MEMORY, np.uint8).size
      except MemoryError:
        return 'refused'
    case 'raise':
      raise KeyError('a')
  return job * job


def test_only_the_calls_that_crash_or_hang_are_lost():
  jobs = [1, 'abort', 2, 'hang', 3, 'allocate', *range(4, 12)]
  results = dict(processes.results(one, jobs, 2, seconds=0.5))
  assert results.pop('abort') == processes.Lost('crashes the process')
  assert results.pop('hang') == processes.Lost('takes more than 0.5 s')
  assert results.pop('allocate') == 'refused'
  assert results == {n: n * n for n in range(1, 12)}


def test_an_error_is_raised_and_no_process_stays():
  with pytest.raises(KeyError, match='a'):
    list(processes.results(one, [1, 'raise', 2, 3], 2))
  results = processes.results(one, [1, 2, 'hang'], 1)
  assert next(results) == (1, 1)
  results.close()
  children = pathlib.Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()
  commands = [pathlib.Path('/proc', child, 'cmdline').read_text() for child in children]
  assert not [c for c in commands if 'spawn_main' in c]


def test_no_more_jobs_are_read_than_there_are_processes():
  read = []

  def jobs():
    for n in range(6):
      read.append(n)
      yield n

  for done, _ in enumerate(processes.results(one, jobs(), 1), 1):
    assert len(read) == done
