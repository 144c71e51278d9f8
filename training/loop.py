"""The order of things in training: evaluate, sample, score, save, step."""

import functools
import pathlib
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from core.params import merge
from core.typing import Params
from training import account, checkpoint, guard
from training.agreement import agreed
from training.monitor import monitor, say
from training.phases import Clock
from training.state import State


def run(
  config: ConfigDict,
  workdir: pathlib.Path,
  state: State,
  frozen: Params,
  data,
  checkpoints: ocp.CheckpointManager,
  *,
  clock: Clock,
  stopped: Callable[[], str],
  step_flops: float,
  step: Callable[[State, Params, dict, bool], tuple[State, dict]],
  evaluate: Callable[[Params], dict[str, float]],
  sample: Callable[[Params, int], None],
  score: Callable[[Params, int], dict[str, float]],
) -> State:
  """The state after `config.steps` steps, from wherever `state` and the iterator `data` are.

  evaluate: returns the loss by the name of what it is of; the best checkpoints have the least.

  Averaged parameters are evaluated, sampled and scored, and the state is saved, every so many steps
  as the config says, at the end, and but for saving at the beginning.  The run ends early, and is
  saved, soon after `stopped` has said in any process that it was told to stop, or at once after a
  save that failed where `config.stop_on_failed_save` is set.  A save that failed is told of, and
  nothing else: whoever calls this looks what the last checkpoint is.

  What a step came to is read while the next one runs, in all processes alike.  A save is whole
  before the next step begins, so that a run which is killed loses `save_every` steps at most;
  samples and the next batch are made meanwhile.
  """
  start = int(state.step)
  frames = config.loader.batch * config.data.frames
  rates = dict(start=start, steps=config.steps, frames=frames, step_flops=step_flops)
  with monitor(workdir, **rates) as tell:
    goodput = account.begin(workdir, start, clock, tell)
    hear = functools.partial(_hear, config, start, clock, goodput, data, tell)
    unheard, stopping = None, False
    for i in range(start, config.steps + 1):
      end = i == config.steps
      due = {
        what for what in ('evaluate', 'sample', 'score', 'save') if _due(i, config[f'{what}_every'])
      }
      if unheard and (due or end or stopping):  # before anything of it is kept
        with clock.during('step'):
          stopping |= hear(*unheard)
        unheard = None
      loss = None
      if not stopping and (end or 'evaluate' in due):
        with clock.during('evaluate'):
          evaluated = evaluate(merge(state.ema, frozen))
        tell(i, evaluated)
        (loss,) = evaluated.values()
      saves = i > start and (end or stopping or 'save' in due)
      failed = ''
      if saves:
        with clock.during('save'):
          failed = _failure(checkpoint.save, checkpoints, state, data, loss)
      if not stopping and (end or 'sample' in due):
        with clock.during('sample'):
          if reason := _failure(sample, merge(state.ema, frozen), i):
            say(f'{reason}  Samples of step {i} are not all there; the run goes on.')
      if not stopping and (end or 'score' in due):
        with clock.during('sample'):
          if reason := _failure(_score, score, tell, merge(state.ema, frozen), i):
            say(f'{reason}  Scores of step {i} are left out; the run goes on.')
      batch = None
      if not (end or stopping):
        with clock.during('data'):
          batch = next(data)
      if saves:
        with clock.during('save'):
          failed = agreed(_failure(checkpoint.finish, checkpoints) or failed)
        if failed:
          goes_on = not (batch is None or config.stop_on_failed_save)
          say(failed + ('  The run goes on; the next checkpoint may do.' if goes_on else ''))
        else:
          tell(i, {account.SAVED: 1.0})
      if batch is None or (failed and config.stop_on_failed_save):
        break
      with clock.during('step'):
        state, metrics = step(state, frozen, batch, bool(stopped()))
        if unheard:
          stopping = hear(*unheard)
        unheard = i + 1, metrics
    tell(int(state.step), goodput())
  return state


def _hear(config, start, clock, goodput, data, tell, number, metrics) -> bool:
  """Tells of a step; whether the run is to stop, as one of its processes was told so."""
  metrics = jax.tree.map(np.ndarray.item, jax.device_get(metrics))
  if message := guard.report(number, metrics, config.guard.abort_after):
    say(message)
  stop = metrics.pop('stop')
  if _due(number, config.log_every) or stop:
    waits = {'data_wait_s': clock.seconds.get('data', 0.0) / (number - start)}
    clock.last = {'step': number} | metrics
    tell(number, metrics | waits | goodput() | data.counts, advance=True)
  return stop


def _score(score, tell, params: Params, number: int) -> None:
  if scores := score(params, number):
    tell(number, scores)


def _failure(act: Callable[..., None], *args) -> str:
  """Does what writes files; why it failed, '' where it did not."""
  try:
    act(*args)
  except OSError as error:
    return str(error)
  return ''


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0
