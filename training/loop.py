"""The order of things in training: evaluate, sample, save, step."""

import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from core.params import merge
from core.typing import Params
from training import account, checkpoint, guard
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
  step: Callable[[State, Params, dict], tuple[State, dict]],
  evaluate: Callable[[Params], float],
  sample: Callable[[Params, int], None],
) -> State:
  """The state after `config.steps` steps, from wherever `state` and the iterator `data` are.

  Averaged parameters are evaluated and sampled, and the state is saved, every so many steps as the
  config says, at the end, and but for saving at the beginning.  The run ends early, and is saved,
  soon after `stopped` has said in any process that it was told to stop.

  What a step came to is read while the next one runs, in all processes alike.
  """
  start = int(state.step)
  frames = config.loader.batch * config.data.frames
  rates = dict(start=start, steps=config.steps, frames=frames, step_flops=step_flops)
  with monitor(workdir, **rates) as tell:
    tell(start, {account.STARTED: time.time() - sum(clock.account().values())})

    def hear(number: int, metrics: dict) -> bool:
      """Tells of a step; whether it was the last, as someone was told to stop."""
      metrics = jax.device_get(metrics)
      if message := guard.report(number, metrics, config.guard.abort_after):
        say(message)
      stop = bool(metrics.pop('stop'))
      if _due(number, config.log_every) or stop:
        waits = {'data_wait_s': clock.seconds.get('data', 0.0) / max(number - start, 1)}
        times = account.seconds(clock.account())
        clock.last = {name: float(value) for name, value in metrics.items()} | {'step': number}
        tell(number, metrics | waits | times | data.counts, advance=True)
      return stop

    def save(state: State, loss: float | None) -> None:
      with clock.during('save'):
        for act in (checkpoint.finish, lambda c: checkpoint.save(c, state, data, loss)):
          try:
            act(checkpoints)
          except OSError as error:
            if config.stop_on_failed_save:
              raise
            say(f'step {int(state.step)}: {error}  The run goes on; the next checkpoint may do.')

    unheard, stopping = None, False
    for i in range(start, config.steps + 1):
      end = i == config.steps
      due = {what for what in ('evaluate', 'sample', 'save') if _due(i, config[f'{what}_every'])}
      if unheard and (due or end or stopping):  # before anything of it is kept
        with clock.during('step'):
          stopping |= hear(*unheard)
        unheard = None
      loss = None
      if not stopping and (end or 'evaluate' in due):
        with clock.during('evaluate'):
          loss = float(evaluate(merge(state.ema, frozen)))
        tell(i, {'evaluation_loss': loss})
      if not stopping and (end or 'sample' in due):
        with clock.during('sample'):
          sample(merge(state.ema, frozen), i)
      if i > start and (end or stopping or 'save' in due):
        save(state, loss)
      if end or stopping:
        break
      with clock.during('data'):
        batch = next(data)
        batch['stop'] = np.full(len(batch['text']), bool(stopped()))
      with clock.during('step'):
        state, metrics = step(state, frozen, batch)
        if unheard:
          stopping = hear(*unheard)
        unheard = i + 1, metrics
    with clock.during('save'):
      checkpoint.finish(checkpoints)
    tell(int(state.step), account.seconds(clock.account()))
  return state


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0
