"""What a run does between its steps: it evaluates, saves, samples, scores, and logs metrics.

Each of these is timed as the phase it is, so that `training.phases` watches it.
"""

from collections.abc import Callable, Iterator

import jax
import numpy as np
import orbax.checkpoint as ocp

from core.typing import Params
from training import account, checkpoint, guard, waits
from training.agreement import agreed
from training.loop import Finish, Hook, is_due
from training.metrics import Metrics
from training.monitor import log
from training.phases import Clock
from training.state import State

Average = Callable[[State], Params]  # all parameters of a state, the trained ones averaged
Losses = dict[int, float]  # the evaluation loss by step


def evaluation(
  every: int,
  evaluate: Callable[[Params], dict[str, float]],
  average: Average,
  metrics: Metrics,
  clock: Clock,
  losses: Losses,
) -> Hook:
  """The hook that evaluates the averaged parameters.

  evaluate: returns the loss by the name of its metric.
  losses: gets the loss of the step, for the hook that saves.
  """

  def call(step: int, state: State) -> None:
    with clock.during('evaluate'):
      by_name = evaluate(average(state))
    metrics.write(step, by_name)
    (losses[step],) = by_name.values()

  return Hook(every, call)


def saving(
  every: int,
  checkpoints: ocp.CheckpointManager,
  data: Iterator,
  start: int,
  metrics: Metrics,
  clock: Clock,
  losses: Losses,
  *,
  stop_if_failed: bool,
) -> Hook:
  """The hook that saves the state and the position of the data, except at the step `start`.

  losses: evaluation losses by step; the best checkpoints have the least.
  stop_if_failed: whether the run ends where a checkpoint could not be saved.  Otherwise that is
    logged and the run goes on; whoever started it looks at which checkpoint is the last.
  """

  def call(step: int, state: State) -> Finish | None:
    if step == start:
      return None
    with clock.during('save'):
      failure = _failure(checkpoint.save, checkpoints, state, data, losses.get(step))

    def finish(last: bool) -> bool:
      with clock.during('save'):
        problem = agreed(_failure(checkpoint.finish, checkpoints) or failure)
      if not problem:
        metrics.write(step, {account.SAVED: 1.0})
        return False
      goes_on = not (last or stop_if_failed)
      log(problem + ('  The run goes on; the next checkpoint may do.' if goes_on else ''))
      return stop_if_failed

    return finish

  return Hook(every, call, when_stopped=True)


def sampling(
  every: int, write_samples: Callable[[Params, int], None], average: Average, clock: Clock
) -> Hook:
  """The hook that samples videos with the averaged parameters."""

  def call(step: int, state: State) -> None:
    with clock.during('sample'):
      if failure := _failure(write_samples, average(state), step):
        log(f'{failure}  Samples of step {step} are not all there; the run goes on.')

  return Hook(every, call)


def scoring(
  every: int,
  score: Callable[[Params, int], dict[str, float]],
  average: Average,
  metrics: Metrics,
  clock: Clock,
) -> Hook:
  """The hook that scores videos made with the averaged parameters."""

  def score_and_write(params: Params, step: int) -> None:
    if scores := score(params, step):
      metrics.write(step, scores)

  def call(step: int, state: State) -> None:
    with clock.during('score'):
      if failure := _failure(score_and_write, average(state), step):
        log(f'{failure}  Scores of step {step} are left out; the run goes on.')

  return Hook(every, call)


def make_read_metrics(
  metrics: Metrics,
  advance: Callable[[int, float], dict[str, float]],
  goodput: Callable[[], dict[str, float]],
  data,
  clock: Clock,
  *,
  start: int,
  log_every: int,
  abort_after: int,
) -> Callable[[int, dict], bool]:
  """Returns `read_metrics(step, values) -> stop` of `loop.run`.

  It logs updates that were left out, and every so many steps writes the metrics, with the rates
  that `advance` returns, the account of time, and the counts of the data.  `stop` says whether any
  process got a signal.  FloatingPointError after too many updates that were left out: see
  `guard.report`.
  """

  report_waits = waits.make_report(data, clock)

  def read_metrics(step: int, values: dict) -> bool:
    values = jax.tree.map(np.ndarray.item, jax.device_get(values))
    if message := guard.report(step, values, abort_after):
      log(message)
    stop = values.pop('stop')
    if is_due(step, log_every) or stop:
      clock.last = {'step': step} | values
      values['data_wait_s'] = clock.seconds.get('data', 0.0) / (step - start)
      values['data_wait_share'] = report_waits()
      values |= goodput() | data.counts
      metrics.write(step, values | advance(step, values['loss']))
    return stop

  return read_metrics


def _failure(write_files: Callable[..., None], *args) -> str:
  """Why something that writes files failed, '' if it did not."""
  try:
    write_files(*args)
  except OSError as error:
    return str(error)
  return ''
