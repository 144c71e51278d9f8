"""Phases of a run: how long each takes, and a watchdog that ends a run which hangs.

A run is in one phase at a time.  `training.account` computes goodput from the seconds of each.  A
phase that takes longer than its limit counts as a hang: the stacks of all threads and the last
metrics are written to the workdir, and the process ends with `STALLED`, so that a scheduler starts
it again.
"""

import contextlib
import dataclasses
import faulthandler
import json
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import jax

from core.errors import UserError
from core.folder import new_file
from core.interrupt import end_process

STALLED = 75  # EX_TEMPFAIL of sysexits.h: trying again may help

# Every phase, and its name in an account.
PHASES = {
  'start': 'start-up',
  'restore': 'restore',
  'compile': 'compile',
  'step': 'steps',
  'data': 'data wait',
  'evaluate': 'evaluation',
  'sample': 'samples',
  'score': 'scores',
  'save': 'save',
  'close': 'closing',
}


@dataclasses.dataclass
class Clock:
  """The phase that a run is in, and the seconds of each phase so far."""

  phase: str = 'start'
  since: float = dataclasses.field(default_factory=time.monotonic)
  seconds: dict[str, float] = dataclasses.field(default_factory=dict)
  last: dict = dataclasses.field(default_factory=dict)  # the last metrics that were read

  @property
  def has_stepped(self) -> bool:
    """Whether the first step has begun."""
    return self.phase == 'step' or 'step' in self.seconds

  def enter(self, phase: str) -> str:
    """Begins a phase; returns the one that ends."""
    now, before = time.monotonic(), self.phase
    self.seconds[before] = self.seconds.get(before, 0.0) + now - self.since
    self.phase, self.since = phase, now
    return before

  @contextlib.contextmanager
  def during(self, phase: str) -> Iterator[None]:
    """A context in another phase; the phase before it continues afterwards."""
    before = self.enter(phase)
    try:
      yield
    finally:
      self.enter(before)

  def count_as(self, other: str, phase: str, seconds: float) -> None:
    """Counts so many seconds of `phase` as those of another one."""
    self.seconds[phase] -= seconds
    self.seconds[other] = self.seconds.get(other, 0.0) + seconds

  def account(self) -> dict[str, float]:
    """The seconds of every phase until now."""
    self.enter(self.phase)
    return {phase: self.seconds.get(phase, 0.0) for phase in PHASES}


@contextlib.contextmanager
def watched(
  workdir: pathlib.Path,
  limits: Mapping[str, float],
  *,
  started: float | None = None,
  end: Callable[[int], None] | None = None,
) -> Iterator[Clock]:
  """A clock in the phase `start`, and a thread that watches it.

  limits: the most seconds of each phase, 0 for no limit.  UserError for names that are not phases,
    or if one is missing.
  started: when the process started, by `time.time`; now by default.
  end: called with `STALLED`; by default it ends this process and its children.
  """
  if set(limits) != set(PHASES):
    raise UserError(
      f'Got limits of {", ".join(sorted(limits))}; allowed are {", ".join(sorted(PHASES))}, each.'
    )
  elapsed = time.time() - started if started else 0.0
  clock = Clock(since=time.monotonic() - elapsed)
  done = threading.Event()
  args = (workdir, clock, dict(limits), done, end or end_process)
  thread = threading.Thread(target=_watch, args=args, name='watchdog', daemon=True)
  thread.start()
  try:
    yield clock
  finally:
    clock.enter('close')
    done.set()
    thread.join()


def _watch(workdir, clock, limits, done, end):
  while not done.wait(0.2):
    phase, since = clock.phase, clock.since
    limit = limits[phase]
    if limit and time.monotonic() - since > limit and clock.since == since:
      path = _dump(workdir, clock, phase, limit)
      print(
        f'error: {PHASES[phase]} took longer than {limit:g} s (watchdog.{phase}); the stacks of '
        f'all threads are in {path}.',
        file=sys.stderr,
        flush=True,
      )
      end(STALLED)
      return


def _dump(workdir, clock, phase, limit) -> pathlib.Path:
  """Writes the stacks of all threads to a file, or to stderr if the disk cannot be written."""
  path = workdir / f'stalled_{time.strftime("%Y%m%d_%H%M%S")}_process_{jax.process_index()}.txt'
  head = f'{PHASES[phase]} took longer than {limit:g} s\nlast metrics: {json.dumps(clock.last)}\n\n'
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with new_file(path) as new, new.open('w') as file:
      file.write(head)
      file.flush()
      faulthandler.dump_traceback(file, all_threads=True)
  except OSError:
    print(head, file=sys.stderr, flush=True)
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
  return path
