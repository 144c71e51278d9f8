"""A workdir: what a run leaves, from which it resumes, and from which a model is sampled.

    config.json          the resolved config
    frozen/              the parameters that are not trained, saved once
    checkpoints/<step>/  ema, train (all else of the state), data (the position of the iterator)
                         and digest (of every array)

Orbax writes a checkpoint under a temporary name and renames it, so one is complete or not there.
What befalls it later is found by `training.integrity`, and `training.resume` goes on from it.
"""

import contextlib
import json
import pathlib
import sys
import textwrap
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from ml_collections import ConfigDict

from core import unicode
from core.folder import new_file
from core.params import merge
from core.typing import Params
from core.writable import require_room
from training import integrity
from training.agreement import from_first
from training.state import State


def _save_small_arrays_whole() -> None:
  """Devices that hold the same array save a part of it each; of small ones cutting takes longer."""
  handler = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=2**20)
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)  # it warns of every handler that takes another's place
  ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)
  logging.set_verbosity(verbosity)


_save_small_arrays_whole()


# The most bytes of an array that are written, and so read, as one: another mesh has other shards.
CHUNK_BYTES = 2**22


def save_args(tree: Params) -> Params:
  """Tells Orbax how to save each array of the tree."""
  return jax.tree.map(lambda x: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), tree)


def check_config(workdir: pathlib.Path, config: ConfigDict) -> None:
  """ValueError, which says where they differ, if the workdir is of a run of another config.

  A run may be lengthened, moved to other devices and told to report more or less often, and of
  videos that are sampled in another way.
  """
  new = json.loads(config.to_json())
  if (workdir / 'config.json').exists():
    old = _read_config(workdir)
    free = {'steps', 'mesh', 'shard_above', 'keep', 'keep_best', 'watchdog', 'scores', 'sampling'}
    free |= {'evaluate_clips'}  # which came later
    free = free & new.keys() | {k for k in new if k.endswith('_every')}
    keys = (new.keys() | old.keys()) - free
    if differ := sorted(k for k in keys if _value(old, k) != _value(new, k)):
      raise ValueError(
        f'{workdir} holds a run of another config: {", ".join(differ)} differ.  Only '
        f'{", ".join(sorted(free))} may change; use another --workdir otherwise.'
      )


def save_config(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Writes the config, where it is not there already; the errors of `check_config`."""
  check_config(workdir, config)
  path, text = workdir / 'config.json', json.dumps(json.loads(config.to_json()), **_LAYOUT) + '\n'
  if jax.process_index() == 0 and not (path.exists() and path.read_text('utf-8') == text):
    workdir.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
      file.write_text(text, 'utf-8')


_LAYOUT = {'indent': 2, 'sort_keys': True}


def _value(config: dict, key: str):
  """What compares of a key: one of a later version that is at nothing is as good as none."""
  value = config.get(key) or None
  return {k: v for k, v in value.items() if v} if isinstance(value, dict) else value


def load_config(workdir: pathlib.Path) -> ConfigDict:
  """The config of the run in the workdir; ValueError where there is none, or it can't be read."""
  workdir = pathlib.Path(workdir)
  unicode.require_path(workdir.absolute())
  if not (workdir / 'config.json').is_file():
    raise ValueError(f'{workdir} is not a workdir: it has no config.json, as train.py writes one.')
  return ConfigDict(_read_config(workdir))


def _read_config(workdir):
  path = workdir / 'config.json'
  try:
    found = json.loads(path.read_text('utf-8'))
  except (OSError, ValueError) as error:
    raise ValueError(f'{path} cannot be read: {error}.  {_RESTORE}') from error
  if not isinstance(found, dict):
    raise ValueError(f'{path} is no config, as it is not a JSON object.  {_RESTORE}')
  return found


_RESTORE = 'Copy it from elsewhere, or remove it: the command that trained here writes it anew.'


def manager(
  workdir: pathlib.Path, *, keep: int | None = None, keep_every: int = 0, keep_best: int = 0
) -> ocp.CheckpointManager:
  """The checkpoints of the workdir; they are written behind what goes on until `finish`.

  The last `keep` stay (all, if it is None), those of every so many steps, and those of the lowest
  evaluation losses.
  """
  kinds = ocp.checkpoint_managers
  policies = [kinds.LatestN(keep)]
  if keep_every:
    policies.append(kinds.EveryNSteps(keep_every))
  if keep_best:
    loss = lambda metrics: metrics['evaluation_loss']
    best = kinds.BestN(
      get_metric_fn=loss, reverse=True, n=keep_best, keep_checkpoints_without_metrics=False
    )
    policies.append(best)
  options = ocp.CheckpointManagerOptions(preservation_policy=kinds.AnyPreservationPolicy(policies))
  return ocp.CheckpointManager(folder(workdir), options=options)


def folder(workdir: pathlib.Path) -> pathlib.Path:
  """Where the checkpoints of the workdir are."""
  return (pathlib.Path(workdir) / 'checkpoints').resolve()


def steps(workdir: pathlib.Path) -> list[int]:
  """The steps of all checkpoints that were finished, the latest first."""
  path = folder(workdir)
  return sorted(ocp.utils.checkpoint_steps(path), reverse=True) if path.is_dir() else []


def latest_step(workdir: pathlib.Path) -> int | None:
  """The step of the latest whole checkpoint, if there is one."""
  whole = (step for step in steps(workdir) if not integrity.damage(folder(workdir) / str(step)))
  return next(whole, None)


def fingerprint(workdir: pathlib.Path, step: int | None) -> str:
  """What tells the parameters of a checkpoint from all others, copies aside; '' of none."""
  return '' if step is None else integrity.fingerprint(folder(workdir) / str(step) / 'ema')


def save(
  checkpoints: ocp.CheckpointManager,
  state: State,
  data: Iterator,
  evaluation_loss: float | None = None,
) -> None:
  """Begins to save the state and the position of the data iterator; `finish` first, if another is
  being saved.

  OSError where that can't begin.
  """
  train = {name: value for name, value in vars(state).items() if name != 'ema'}
  with _whole_or_gone(checkpoints):
    # Orbax tells of a full disk in a thousand lines.  What it writes may be compressed.
    size = sum(x.nbytes for x in jax.tree.leaves(vars(state)))
    require_room(pathlib.Path(checkpoints.directory), size // 2)
    checkpoints.save(
      int(state.step),
      metrics=None if evaluation_loss is None else {'evaluation_loss': float(evaluation_loss)},
      args=ocp.args.Composite(
        ema=ocp.args.StandardSave(state.ema, save_args(state.ema)),
        train=ocp.args.StandardSave(train, save_args(train)),
        data=ocp.args.JsonSave(data.get_state()),
        digest=ocp.args.JsonSave(integrity.digest(vars(state))),
      ),
    )


def finish(checkpoints: ocp.CheckpointManager) -> None:
  """Waits until what was begun is saved.  OSError, with nothing left of it, where it can't be."""
  with _whole_or_gone(checkpoints):
    checkpoints.wait_until_finished()
  integrity.sweep(pathlib.Path(checkpoints.directory))  # what failed may have been written to since
  integrity.seal(pathlib.Path(checkpoints.directory))


@contextlib.contextmanager
def _whole_or_gone(checkpoints):
  try:
    yield
  except Exception as error:  # Orbax and TensorStore raise whatever the disk makes them
    integrity.sweep(pathlib.Path(checkpoints.directory))
    checkpoints.reload()
    reason = textwrap.shorten(str(error), 300)
    raise OSError(f'A checkpoint could not be saved: {reason}') from error


def progress(config: ConfigDict, step: int) -> str:
  """How far a run has come, as in 'step 10 of 25'; a model that was not trained here is at 0."""
  return f'step {step}' + (f' of {config.steps}' if 0 < step < config.get('steps', 0) else '')


def load(
  workdir: pathlib.Path, place: Callable[[Params], Params] | None = None
) -> tuple[ConfigDict, Params, int]:
  """The config, the averaged parameters with the frozen ones, and the step they are of.

  place: from the shapes of parameters to their shardings.  Each process reads its own shards alone,
    wherever the parameters were when they were saved; all processes of the shardings call this
    together.  Without it, all parameters are on the first device of this process.

  Parameters are float32 whatever they were saved as.  ValueError where there is no model, where it
  can't be read, and where a run that goes on meanwhile has removed it for a later one.
  """
  workdir = pathlib.Path(workdir)
  config = load_config(workdir)
  step = latest_step(workdir)
  step = from_first(step) if place else step
  if step is None:
    state = 'only damaged checkpoints' if steps(workdir) else 'no checkpoint yet'
    raise ValueError(f'{workdir} holds {state}.')
  for other in steps(workdir):
    if other > step and jax.process_index() == 0:
      problem = integrity.damage(folder(workdir) / str(other))
      print(
        f'{folder(workdir) / str(other)} is damaged: {problem}.  {step} is used.', file=sys.stderr
      )
  path = folder(workdir) / str(step) / 'ema'
  frozen = (workdir / 'frozen').resolve()
  place = place or _on_one_device
  try:
    params = merge(_read(path, place), *([_read(frozen, place)] if frozen.exists() else []))
  except Exception as error:  # whatever a library makes of files that are damaged or gone
    if not path.is_dir():
      raise ValueError(f'{path} was removed while it was read: try again.') from error
    said = textwrap.shorten(str(error), 200)
    raise ValueError(f'The model in {workdir}, step {step}, cannot be read: {said}') from error
  return config, params, step


def _read(path: pathlib.Path, place: Callable[[Params], Params]) -> Params:
  """What is saved there, as float32 in the shardings that `place` gives."""
  shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, jnp.float32), saved_arrays(path))
  with ocp.StandardCheckpointer() as checkpointer:
    like = lambda p, sharding: p.update(sharding=sharding)
    return checkpointer.restore(path, jax.tree.map(like, shapes, place(shapes)))


def saved_arrays(path: pathlib.Path) -> Params:
  """The shapes and types of what is saved there; ValueError where the files do not say them."""
  with ocp.StandardCheckpointer() as checkpointer:
    metadata = checkpointer.metadata(path).item_metadata
  if metadata is None:
    raise ValueError(f'{path.name} has no metadata')
  return metadata.tree


def _on_one_device(shapes: Params) -> Params:
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.tree.map(lambda p: here, shapes)
