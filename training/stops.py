"""Signals that ask a run to stop, which it does between two steps."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from core import interrupt
from training.monitor import log
from training.phases import Clock

# SIGTERM is sent by most schedulers, SIGUSR1 by SLURM, and SIGINT by Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
GRACE = 3.0  # seconds in which a run that is interrupted so early may close its files


@contextlib.contextmanager
def catching_signals(
  clock: Clock | None = None, end: Callable[[int], None] = interrupt.end_process
) -> Iterator[Callable[[], str]]:
  """Yields a function that returns the name of the first signal this process got, or ''.

  Ctrl-C before the first step of this process, when there is nothing to save, is a
  KeyboardInterrupt, and the process ends soon, whatever it is doing.  The other signals wait for
  that step, because all processes stop after the same one.  A second Ctrl-C always ends the process
  at once.  A second signal of another kind changes nothing.

  clock: knows whether there was a step; without it, the run counts as past its first step.
  end: called with the exit status; by default it ends this process and its children.

  To be called in the main thread.
  """
  received, raised, done = [], threading.Event(), threading.Event()
  early = lambda: clock is not None and not clock.has_stepped

  def handle(number, frame):
    # Python calls handlers when the main thread is back from C++.
    if number == signal.SIGINT and early():
      raised.set()
      raise KeyboardInterrupt

  def act(number):
    received.append(signal.Signals(number).name)
    if number != signal.SIGINT:
      return
    if received.count('SIGINT') > 1:
      print('error: interrupted at once; what was not saved is lost.', file=sys.stderr, flush=True)
      end(interrupt.STATUS)
    elif early():
      timer = threading.Thread(target=wait, name='interrupted', daemon=True)
      timer.start()
    else:
      log('Interrupted: the run is saved after this step.  A second Ctrl-C ends it at once.')

  def wait():
    if not done.wait(GRACE) and (raised.is_set() or early()):
      print('error: interrupted.', file=sys.stderr, flush=True)
      end(interrupt.STATUS)

  before = {number: signal.signal(number, handle) for number in SIGNALS}
  try:
    with interrupt.acting_on(SIGNALS, act):
      yield lambda: received[0] if received else ''
  finally:
    done.set()
    for number, handler in before.items():
      signal.signal(number, handler)
