"""The workdir of a run, from which it is resumed and its model is sampled.

    config.json          the resolved config
    frozen/              the parameters that are not trained, saved once
    checkpoints/<step>/  ema, train (the rest of the state), data (the position of the iterator, and
                         the numbers of examples) and digest (of every array)

Orbax writes a checkpoint under a temporary name and then renames it, so that a checkpoint is either
complete or not there.  `training.integrity` detects later damage, and `training.resume` restores.
"""

import contextlib
import json
import pathlib
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator

import jax
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict, FieldReference

from core import unicode
from core.errors import UserError, UserFileError
from core.folder import new_file
from core.params import TEACHER, merge
from core.typing import Params
from core.writable import require_room
from training import arrays, integrity
from training.agreement import from_first
from training.state import State


def check_config(workdir: pathlib.Path, config: ConfigDict) -> None:
  """UserError, which says what resumes it, if the workdir holds a run of another config.

  The keys that may change are those that do not change what is trained: the number of steps, the
  devices, how often things happen, how videos are sampled and scored, and where metrics go.  How
  videos are sampled is what a student is trained for.
  """
  if not (workdir / 'config.json').exists():
    return
  new = json.loads(config.to_json())
  free = {'steps', 'mesh', 'shard_above', 'keep', 'keep_best', 'watchdog', 'scores', 'sampling'}
  free |= {'evaluate_clips', 'tracker'}  # which old workdirs do not have
  free -= {'sampling'} if new.get('distill') else set()
  free = free & new.keys() | {k for k in new if k.endswith('_every')}
  new, old = (flatten_dict(c, sep='.') for c in (new, _read_config(workdir)))
  fixed = {k for k in new.keys() | old.keys() if k.split('.')[0] not in free}
  # A key of a later version that is empty counts as missing.
  if differ := sorted(k for k in fixed if (old.get(k) or None) != (new.get(k) or None)):
    reason = f'{workdir} holds a run of another config: {", ".join(differ)} differ.  '
    if len(differ) <= _LISTED and new.keys() >= {*differ}:
      was = [f'--config.{k}={old.get(k, type(new[k])())}' for k in differ]
      reason += f'What resumes it: {shlex.join(was)}.  '
    raise UserError(
      f'{reason}Only {", ".join(sorted(free))} may change; use another --workdir otherwise.'
    )


def save_config(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Writes the config, unless it is there already; raises the errors of `check_config`."""
  check_config(workdir, config)
  path, text = workdir / 'config.json', json.dumps(json.loads(config.to_json()), **_LAYOUT) + '\n'
  if jax.process_index() == 0 and not (path.exists() and path.read_text('utf-8') == text):
    workdir.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
      file.write_text(text, 'utf-8')


_LISTED = 5  # keys that a refused config names with their values
_LAYOUT = {'indent': 2, 'sort_keys': True}


def load_config(workdir: pathlib.Path) -> ConfigDict:
  """The config of the run in the workdir; UserError if there is none or it cannot be read."""
  workdir = pathlib.Path(workdir)
  unicode.require_path(workdir.absolute())
  if not (workdir / 'config.json').is_file():
    raise UserError(f'{workdir} is not a workdir: it has no config.json, as train.py writes one.')
  config = _read_config(workdir)
  if isinstance(data := config.get('data'), dict) and 'size' in data:
    # Either kind of size may replace it, as in configs/base.py.
    size = tuple(data['size']) if isinstance(data['size'], list) else data['size']
    data['size'] = FieldReference(size, field_type=object)
  return ConfigDict(config)


def _read_config(workdir):
  path = workdir / 'config.json'
  try:
    config = json.loads(path.read_text('utf-8'))
  except (OSError, ValueError) as error:
    raise UserError(f'{path} cannot be read: {error}.  {_RESTORE}') from error
  if not isinstance(config, dict) or not isinstance(config.get('model', {}), dict):
    raise UserError(f'{path} is no config, as it is not a JSON object of groups.  {_RESTORE}')
  for old, new in RENAMED.items():
    *groups, key = old.split('.')
    group = config
    for name in groups:
      group = group.get(name, {})
    if key in group:
      group[new] = group.pop(key)
  return config


# Keys that earlier versions wrote, and the last part of their names today.
RENAMED = {
  'model.down_blocks': 'down_units',
  'model.up_blocks': 'up_units',
  'model.level_embedding': 'noise_level_embedding',
}

_RESTORE = 'Copy it from elsewhere, or remove it: the command that trained here writes it anew.'


def manager(
  workdir: pathlib.Path, *, keep: int | None = None, keep_every: int = 0, keep_best: int = 0
) -> ocp.CheckpointManager:
  """The checkpoints of the workdir, which are written in the background until `finish`.

  These are kept: the last `keep` (None is all), one every `keep_every` steps, and the `keep_best`
  with the lowest evaluation losses.
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
  """The folder of the workdir's checkpoints."""
  return (pathlib.Path(workdir) / 'checkpoints').resolve()


def steps(workdir: pathlib.Path) -> list[int]:
  """The steps of all complete checkpoints, the latest first."""
  path = folder(workdir)
  return sorted(ocp.utils.checkpoint_steps(path), reverse=True) if path.is_dir() else []


def latest_step(workdir: pathlib.Path, *, shared: bool = False) -> int:
  """The step of the latest intact checkpoint; damaged ones after it are printed.

  shared: whether all processes call this together, and get the same step.

  UserError if there is none.
  """
  complete, damaged = _complete_and_damaged(workdir)
  if shared:
    complete = from_first(complete)
  if complete is None:
    state = 'only damaged checkpoints' if damaged else 'no checkpoint yet'
    raise UserError(f'{workdir} holds {state}.')
  if jax.process_index() == 0:
    for path, problem in damaged.items():
      print(f'{path} is damaged: {problem}.  {complete} is used.', file=sys.stderr)
  return complete


def _complete_and_damaged(workdir: pathlib.Path) -> tuple[int | None, dict[pathlib.Path, str]]:
  """The step of the latest intact checkpoint, and what is wrong with each later one."""
  saved, damaged = steps(workdir), {}
  for step in saved:
    path = folder(workdir) / str(step)
    try:
      problem = integrity.damage(path)
    except FileNotFoundError as error:
      problem = f'{error.filename} is missing'
    # A run that is still training may have removed it.
    if (problem or not path.is_dir()) and steps(workdir) != saved:
      return _complete_and_damaged(workdir)
    if not problem:
      return step, damaged
    damaged[path] = problem
  return None, damaged


def fingerprint(workdir: pathlib.Path, step: int) -> str:
  """An identifier of the parameters of a checkpoint, which only its copies share."""
  return integrity.fingerprint(folder(workdir) / str(step) / 'ema')


def save(
  checkpoints: ocp.CheckpointManager,
  state: State,
  data: Iterator,
  evaluation_loss: float | None = None,
) -> None:
  """Starts to save the state and the position of the data iterator.

  Call `finish` before the next save.  OSError if saving cannot start.
  """
  train = {name: value for name, value in vars(state).items() if name != 'ema'}
  with _whole_or_gone(checkpoints):
    # Checked before the arrays are copied to the host.  Orbax may compress what it writes.
    size = sum(x.nbytes for x in jax.tree.leaves(vars(state)))
    require_room(pathlib.Path(checkpoints.directory), size // 2)
    checkpoints.save(
      int(state.step),
      metrics=None if evaluation_loss is None else {'evaluation_loss': float(evaluation_loss)},
      args=ocp.args.Composite(
        ema=ocp.args.StandardSave(state.ema, arrays.save_args(state.ema)),
        train=ocp.args.StandardSave(train, arrays.save_args(train)),
        data=ocp.args.JsonSave(data.get_state()),
        digest=ocp.args.JsonSave(integrity.digest(vars(state))),
      ),
    )


def finish(checkpoints: ocp.CheckpointManager) -> None:
  """Waits until the checkpoint is complete.  OSError if it cannot be saved, and is removed."""
  with _whole_or_gone(checkpoints):
    checkpoints.wait_until_finished()
  # A save that failed may have written more files after its folder was removed.
  integrity.sweep(pathlib.Path(checkpoints.directory))
  integrity.seal(pathlib.Path(checkpoints.directory))


@contextlib.contextmanager
def _whole_or_gone(checkpoints):
  try:
    yield
  except Exception as error:  # Orbax and TensorStore raise many kinds of errors of a disk
    integrity.sweep(pathlib.Path(checkpoints.directory))
    checkpoints.reload()
    reason = textwrap.shorten(str(error), 300)
    raise UserFileError(f'A checkpoint could not be saved: {reason}') from error


def progress(config: ConfigDict, step: int) -> str:
  """The progress of a run, as in 'step 10 of 25'; a model not trained here is at step 0."""
  return f'step {step}' + (f' of {config.steps}' if 0 < step < config.get('steps', 0) else '')


def load(
  workdir: pathlib.Path,
  place: Callable[[Params], Params] | None = None,
  step: int | None = None,
) -> tuple[ConfigDict, Params, int]:
  """The config, the averaged and frozen parameters, and the step of the checkpoint.

  place: maps the shapes of parameters to their shardings.  Each process reads only its own shards,
    whatever mesh the parameters were saved from, and all processes call this together.  By default,
    all parameters are on the first device of this process.
  step: the step of the checkpoint; by default, of the latest intact one.

  Parameters are float32, whatever type they were saved as.  UserError if there is no model, if it
  cannot be read, or if a run that is still training has removed it in the meantime.
  """
  workdir = pathlib.Path(workdir)
  config = load_config(workdir)
  if step is None:
    step = latest_step(workdir, shared=place is not None)
  path = folder(workdir) / str(step) / 'ema'
  frozen = (workdir / 'frozen').resolve()
  parts = [path, frozen] if frozen.exists() else [path]
  place = place or arrays.on_one_device
  try:
    params = merge(*(arrays.read(part, place, without={TEACHER}) for part in parts))
  except Exception as error:  # libraries raise many kinds of errors for damaged files
    if not path.is_dir() or any(later > step for later in steps(workdir)):
      raise UserError(f'{path} was removed while it was read: try again.') from error
    reason = textwrap.shorten(str(error), 200)
    raise UserError(f'The model in {workdir}, step {step}, cannot be read: {reason}') from error
  return config, params, step
