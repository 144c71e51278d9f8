"""A run is told to stop by a signal, and stops between two steps."""

import contextlib
import signal
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # of schedulers: the one by most, the other by SLURM


@contextlib.contextmanager
def told_to_stop() -> Iterator[Callable[[], str]]:
  """Yields a function that returns the name of the signal this process got, '' where it got none.

  A second signal changes nothing.  To be called in the main thread.
  """
  got = []
  before = {
    number: signal.signal(number, lambda number, frame: got.append(signal.Signals(number).name))
    for number in SIGNALS
  }
  try:
    yield lambda: got[0] if got else ''
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
