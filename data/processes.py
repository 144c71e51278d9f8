"""Calls in several processes, each of whose results is independent of the others."""

import concurrent.futures
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from core import interrupt

Job, Result = TypeVar('Job'), TypeVar('Result')

WAITING = 8  # jobs for each process
POLL = 1.0  # seconds after which a process sees that its parent is gone


def results(
  call: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Iterator[tuple[Job, Result | None]]:
  """Yields each job and `call(job)`, or None if that crashes its process, as soon as it is there.

  Their order depends on time.  `call` is a function at the top of a module, or a partial of one.
  """
  pool, jobs = _pool(workers), iter(jobs)
  try:
    while block := list(itertools.islice(jobs, WAITING * workers)):
      crashed = []
      with interrupt.not_for_children():  # processes start with the first job
        running = {pool.submit(call, job): job for job in block}
      for future in concurrent.futures.as_completed(running):
        try:
          yield running[future], future.result()
        except BrokenProcessPool:
          crashed.append(running[future])
      if crashed:  # with a process for each job, only the bad one crashes
        pool.shutdown(cancel_futures=True)
        pool = _pool(workers)
        yield from ((job, _alone(call, job)) for job in crashed)
  finally:
    pool.shutdown(cancel_futures=True)


def _alone(call: Callable[[Job], Result], job: Job) -> Result | None:
  with _pool(1) as pool:
    try:
      with interrupt.not_for_children():
        running = pool.submit(call, job)
      return running.result()
    except BrokenProcessPool:
      return None


def _pool(workers: int) -> concurrent.futures.ProcessPoolExecutor:
  context = multiprocessing.get_context('spawn')  # a fork would copy locks that threads hold
  return concurrent.futures.ProcessPoolExecutor(
    workers, mp_context=context, initializer=_end_with, initargs=(os.getpid(),)
  )


def _end_with(parent: int) -> None:
  """Ends this process soon after its parent, which cannot do that if it is killed."""

  def watch():
    while os.getppid() == parent:
      time.sleep(POLL)
    os._exit(1)

  threading.Thread(target=watch, name='parent', daemon=True).start()
