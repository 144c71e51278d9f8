"""A run is told to stop by a signal, and stops between two steps."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from core import interrupt
from training.monitor import say
from training.phases import Clock

# Of schedulers, the one by most, the other by SLURM, and of people: Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
EARLY = ('start', 'restore', 'compile')  # phases of a start in which there is nothing to save
GRACE = 3.0  # seconds in which a run that is interrupted so early may close what it has open


@contextlib.contextmanager
def told_to_stop(
  clock: Clock | None = None, end: Callable[[int], None] = interrupt.end_process
) -> Iterator[Callable[[], str]]:
  """Yields a function that returns the name of the first signal this process got, '' of none.

  Ctrl-C in a phase in which there is nothing to save is a KeyboardInterrupt, and the process ends
  soon, whatever it is doing.  A second one ends it at once, always.  A second signal of another
  kind changes nothing.

  clock: says which phase it is; one that has something to save, if it is not given.
  end: called with the exit status; it ends this process and its children, if it is not said.

  To be called in the main thread.
  """
  got, raised, done = [], threading.Event(), threading.Event()
  early = lambda: clock is not None and clock.phase in EARLY

  def handle(number, frame):
    # Handlers run when the main thread is back in Python.
    if number == signal.SIGINT and early():
      raised.set()
      raise KeyboardInterrupt

  def act(number):
    got.append(signal.Signals(number).name)
    if number != signal.SIGINT:
      return
    if got.count('SIGINT') > 1:
      print('error: interrupted at once; what was not saved is lost.', file=sys.stderr, flush=True)
      end(interrupt.STATUS)
    elif early():
      timer = threading.Thread(target=wait, name='interrupted', daemon=True)
      timer.start()
    else:
      say('Interrupted: the run is saved after this step.  A second Ctrl-C ends it at once.')

  def wait():
    if not done.wait(GRACE) and (raised.is_set() or early()):
      print('error: interrupted.', file=sys.stderr, flush=True)
      end(interrupt.STATUS)

  before = {number: signal.signal(number, handle) for number in SIGNALS}
  try:
    with interrupt.acted_on(SIGNALS, act):
      yield lambda: got[0] if got else ''
  finally:
    done.set()
    for number, handler in before.items():
      signal.signal(number, handler)
