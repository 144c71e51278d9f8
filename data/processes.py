"""Calls in several processes, each of whose results is independent of the others."""

import contextlib
import dataclasses
import math
import multiprocessing
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection
from typing import Any, TypeVar

from core import interrupt

Job, Result = TypeVar('Job'), TypeVar('Result')

MEMORY = 2**32  # bytes that the data of a process may take; allocating more fails
POLL = 1.0  # seconds after which a process sees that its parent is gone
_BEGUN, _NONE = 'begun', object()


@dataclasses.dataclass(frozen=True)
class Lost:
  """That a call has no result, and why: a verb whose subject is the call."""

  reason: str


@dataclasses.dataclass
class _Worker:
  """A process, and the job that it has."""

  process: multiprocessing.process.BaseProcess
  pipe: connection.Connection
  job: Any = _NONE
  deadline: float = math.inf  # by time.monotonic


def results(
  call: Callable[[Job], Result], jobs: Iterable[Job], workers: int, seconds: float = math.inf
) -> Iterator[tuple[Job, Result | Lost]]:
  """Yields each job and `call(job)` as soon as it is there, or a `Lost` if the call crashes its
  process or takes more than `seconds`; then the process is killed.

  Their order depends on time.  `call` is a function at the top of a module, or a partial of one;
  what it raises is raised here.  Each process has at most one job, and `jobs` is read no further.
  """
  jobs, crew = iter(jobs), []
  try:
    while True:
      free = [worker for worker in crew if worker.job is _NONE]
      while len(crew) - len(free) < workers and (job := next(jobs, _NONE)) is not _NONE:
        if not free:
          free.append(_started(call))
          crew.append(free[-1])
        _begin(free.pop(), job)
      busy = [worker for worker in crew if worker.job is not _NONE]
      if not busy:
        return
      left = min(worker.deadline for worker in busy) - time.monotonic()
      ready = connection.wait([w.pipe for w in busy], None if math.isinf(left) else max(left, 0))
      for worker in busy:
        job, outcome = worker.job, _outcome(worker, worker.pipe in ready, seconds)
        if isinstance(outcome, Lost):
          _end(worker)
          crew.remove(worker)
        if outcome is not None:
          worker.job, worker.deadline = _NONE, math.inf
          yield job, outcome if isinstance(outcome, Lost) else _result(*outcome)
  finally:
    for worker in crew:
      _end(worker)


def _started(call: Callable) -> _Worker:
  context = multiprocessing.get_context('spawn')  # a fork would copy locks that threads hold
  ours, theirs = context.Pipe()
  process = context.Process(target=_work, args=(theirs, call, os.getpid()), daemon=True)
  with interrupt.not_for_children():
    process.start()
  theirs.close()  # so that the end of the process closes the pipe
  return _Worker(process, ours)


def _begin(worker: _Worker, job: Job) -> None:
  worker.job = job
  with contextlib.suppress(BrokenPipeError):  # it has crashed, which reading shows
    worker.pipe.send(job)


def _outcome(worker: _Worker, ready: bool, seconds: float) -> tuple | Lost | None:
  """The result and the error of the worker's job, None if there are none yet, or why not."""
  if ready:
    try:
      received = worker.pipe.recv()
    except (EOFError, OSError):  # OSError where it is killed while it sends
      return Lost('crashes the process')
    if received != _BEGUN:
      return received
    worker.deadline = time.monotonic() + seconds
  elif time.monotonic() > worker.deadline:
    return Lost(f'takes more than {seconds:g} s')
  return None


def _result(result: Result, error: BaseException | None) -> Result:
  if error:
    raise error
  return result


def _end(worker: _Worker) -> None:
  worker.process.kill()
  worker.process.join()
  worker.pipe.close()


def _work(pipe: connection.Connection, call: Callable, parent: int) -> None:
  """Does the jobs that come through the pipe, until the parent is gone or kills this process."""
  threading.Thread(target=_end_with, args=(parent,), name='parent', daemon=True).start()
  _, hard = resource.getrlimit(resource.RLIMIT_DATA)
  memory = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
  resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))
  with ThreadPoolExecutor(1) as thread:
    while True:
      job = pipe.recv()
      pipe.send(_BEGUN)
      done = thread.submit(call, job)
      error = done.exception()
      pipe.send((None, error) if error else (done.result(), None))


def _end_with(parent: int) -> None:
  """Ends this process soon after its parent, which cannot do that if it is killed."""
  while os.getppid() == parent:
    time.sleep(POLL)
  os._exit(1)
