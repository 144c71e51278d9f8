"""An iterator of batches that survives the death of its workers."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import grain

from core import interrupt, processors
from core.errors import UserError

KILLED = 'terminated unexpectedly'  # in the message of Grain if a worker was killed
MAX_RESTARTS = 3  # of the workers for one batch; then the error is raised


class Batches(grain.DatasetIterator):
  """An iterator of batches that restarts its workers if one of them is killed.

  Its state is the number of batches taken, which does not depend on the number of workers or
  processes, and the numbers of examples, on which the order depends.  So if the kernel kills a
  worker, for example for its memory, reading goes on without a lost or repeated example; `counts`
  has the number of restarts.  Errors that a worker raises are raised here.
  """

  def __init__(
    self,
    start: Callable[[int, int], grain.DatasetIterator],
    workers: int,
    shares: Mapping[int, Fraction],
    examples: Sequence[int] = (),
  ):
    """start: makes the iterator from a number of batches on, with a number of workers.

    workers: -1 is 1 at first; see `add_workers`.
    shares: of the batches that are of each bucket.
    examples: the number of examples of each part of the source.
    """
    super().__init__()
    self.shares, self._examples = shares, list(examples)
    self._start, self._done, self._running = start, 0, None
    self._workers, self.adds_workers = abs(workers), workers < 0
    self.counts = {'workers_replaced': 0}

  def add_workers(self) -> int:
    """The number of workers from the next batch on, which is doubled, or 0 if it may not grow.

    It may if it was not given, up to the number of cores that this process may use.
    """
    more = min(2 * self._workers, processors.available())
    if not self.adds_workers or more <= self._workers:
      return 0
    self._stop()
    self._workers = more
    return more

  def __next__(self) -> dict:
    self._assert_not_closed()
    for attempt in range(1 + MAX_RESTARTS):
      try:
        batch = self._first() if self._running is None else next(self._running)
        break
      except RuntimeError as error:
        if KILLED not in str(error) or attempt == MAX_RESTARTS:
          raise
        self.counts['workers_replaced'] += 1
        self._stop()
    self._done += 1
    return batch

  def get_state(self) -> dict:
    """What `set_state` continues from."""
    return {'batches': self._done, 'examples': self._examples}

  def set_state(self, state: dict) -> None:
    """Goes to the position of a state; UserError if the numbers of examples were others then.

    States of earlier versions do not have these numbers.
    """
    if (before := state.get('examples', self._examples)) != self._examples:
      then, now = (' + '.join(f'{n:,}' for n in each) for each in (before, self._examples))
      raise UserError(
        f'The data have changed since the checkpoint was saved: there were {then} examples to '
        f'train on, and there are {now}, whose order is another.  Put back the data as they were, '
        'or train further in another --workdir, with --config.init_from of this one.'
      )
    self._stop()
    self._done = int(state['batches'])

  def _first(self) -> dict:
    # A terminal sends Ctrl-C to all processes; workers must survive until this one stops them.
    with interrupt.not_for_children():
      self._running = self._start(self._done, self._workers)
      return next(self._running)

  def close(self) -> None:
    """Ends the workers."""
    self._stop()
    super().close()

  def _stop(self) -> None:
    if self._running:
      self._running.close()
      self._running = None
