"""The order of things in training: evaluate, sample, save, step."""

import pathlib
from collections.abc import Callable

import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from core.params import merge
from core.typing import Params
from training import checkpoint
from training.monitor import monitor
from training.state import State


def run(
  config: ConfigDict,
  workdir: pathlib.Path,
  state: State,
  frozen: Params,
  data,
  checkpoints: ocp.CheckpointManager,
  *,
  step: Callable[[State, Params, dict], tuple[State, dict]],
  evaluate: Callable[[Params], float],
  sample: Callable[[Params, int], None],
) -> State:
  """The state after `config.steps` steps, from wherever `state` and the iterator `data` are.

  Averaged parameters are evaluated and sampled, and the state is saved, every so many steps as the
  config says, at the end, and but for saving at the beginning.
  """
  start = int(state.step)
  frames = config.loader.batch * config.data.frames
  with monitor(workdir, start=start, steps=config.steps, frames=frames) as tell:
    for i in range(start, config.steps + 1):
      last = i == config.steps
      if _due(i, config.evaluate_every) or last:
        tell(i, {'evaluation_loss': evaluate(merge(state.ema, frozen))})
      if _due(i, config.sample_every) or last:
        sample(merge(state.ema, frozen), i)
      if i > start and (_due(i, config.save_every) or last):
        checkpoint.save(checkpoints, state, data)
      if not last:
        state, metrics = step(state, frozen, next(data))
        if _due(i + 1, config.log_every):
          tell(i + 1, metrics, advance=True)
  checkpoints.wait_until_finished()
  return state


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0
