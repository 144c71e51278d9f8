"""A workdir: what a run leaves, from which it resumes, and from which a model is sampled.

    config.json          the resolved config
    frozen/              the parameters that are not trained, saved once
    checkpoints/<step>/  ema, train (step, params, opt) and data (the position of the iterator)

Orbax writes a checkpoint under a temporary name and renames it, so one is complete or not there.
"""

import json
import pathlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from core.params import merge
from core.typing import Params
from training.state import State


def save_config(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Writes the config; one that is there already and differs is a ValueError that says where.

  A run may be lengthened, moved to other devices and told to report more or less often.
  """
  new = json.loads(config.to_json())
  path = workdir / 'config.json'
  if path.exists():
    old = json.loads(path.read_text())
    free = {'steps', 'mesh', 'shard_above', 'keep', *(k for k in new if k.endswith('_every'))}
    # A key of a later version that is at nothing is as good as none.
    value = lambda config, key: config.get(key) or None
    keys = (new.keys() | old.keys()) - free
    if differ := sorted(k for k in keys if value(old, k) != value(new, k)):
      raise ValueError(
        f'{workdir} holds a run of another config: {", ".join(differ)} differ.  Only '
        f'{", ".join(sorted(free))} may change; use another --workdir otherwise.'
      )
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(new, indent=2, sort_keys=True) + '\n')


def load_config(workdir: pathlib.Path) -> ConfigDict:
  """The config of the run in the workdir; ValueError where there is none."""
  path = pathlib.Path(workdir) / 'config.json'
  if not path.is_file():
    raise ValueError(f'{workdir} is not a workdir: it has no config.json, as train.py writes one.')
  return ConfigDict(json.loads(path.read_text()))


def manager(workdir: pathlib.Path, *, keep: int | None = None) -> ocp.CheckpointManager:
  """The checkpoints of the workdir, of which the last `keep` stay; saving is asynchronous."""
  options = ocp.CheckpointManagerOptions(max_to_keep=keep)
  return ocp.CheckpointManager((workdir / 'checkpoints').resolve(), options=options)


def latest_step(workdir: pathlib.Path) -> int | None:
  """The step of the latest whole checkpoint, if there is one."""
  folder = (workdir / 'checkpoints').resolve()
  return max(ocp.utils.checkpoint_steps(folder), default=None) if folder.is_dir() else None


def save(checkpoints: ocp.CheckpointManager, state: State, data: Iterator) -> None:
  """Begins to save the state and the position of the data iterator."""
  train = {'step': state.step, 'params': state.params, 'opt': state.opt}
  checkpoints.save(
    int(state.step),
    args=ocp.args.Composite(
      ema=ocp.args.StandardSave(state.ema),
      train=ocp.args.StandardSave(train),
      data=ocp.args.JsonSave(data.get_state()),
    ),
  )


def restore(checkpoints: ocp.CheckpointManager, state: State, data: Iterator) -> State:
  """The latest saved state, in the shardings of `state`, with `data` moved to its position.

  Without a checkpoint, `state` itself.
  """
  if checkpoints.latest_step() is None:
    return state
  abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
  train = {'step': abstract.step, 'params': abstract.params, 'opt': abstract.opt}
  saved = checkpoints.restore(
    checkpoints.latest_step(),
    args=ocp.args.Composite(
      ema=ocp.args.StandardRestore(abstract.ema),
      train=ocp.args.StandardRestore(train),
      data=ocp.args.JsonRestore(),
    ),
  )
  data.set_state(saved.data)
  return State(ema=saved.ema, **saved.train)


def keep_frozen(workdir: pathlib.Path, frozen: Params) -> Params:
  """The frozen parameters of the run, in the shardings of `frozen`, which they are at first.

  Later ones do not count: those that the run began with are what it goes on from.
  """
  path = (workdir / 'frozen').resolve()
  if not frozen:
    return frozen
  with ocp.StandardCheckpointer() as checkpointer:
    if path.exists():
      return checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, frozen))
    checkpointer.save(path, frozen)
  return frozen


def load(workdir: pathlib.Path) -> tuple[ConfigDict, Params, int]:
  """The config, the averaged parameters with the frozen ones, and the step they are of.

  Parameters are float32 whatever they were saved as.  ValueError where there is no model.
  """
  workdir = pathlib.Path(workdir)
  config = load_config(workdir)
  step = latest_step(workdir)
  if step is None:
    raise ValueError(f'{workdir} holds no checkpoint yet.')
  path = (workdir / 'checkpoints' / str(step) / 'ema').resolve()
  frozen = (workdir / 'frozen').resolve()
  params = merge(_read(path), *([_read(frozen)] if frozen.exists() else []))
  return config, params, step


def _read(path: pathlib.Path) -> Params:
  """What is saved there, as float32 on the first device, wherever it was when it was saved."""
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with ocp.StandardCheckpointer() as checkpointer:
    saved = checkpointer.metadata(path).item_metadata.tree
    like = lambda p: jax.ShapeDtypeStruct(p.shape, jnp.float32, sharding=here)
    return checkpointer.restore(path, jax.tree.map(like, saved))
