"""How a run starts: from its latest checkpoint, from a trained model (its parent), or from nothing.

`config.init_from` is the workdir of the parent.
"""

import json
import pathlib
from collections.abc import Iterator

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from core.errors import UserError
from core.sharding import fsdp
from core.typing import Key, Params
from training import checkpoint, resume
from training.monitor import log
from training.phases import Clock
from training.plan import Plan, initialise
from training.stage import model_stage
from training.state import State


def open_state(
  workdir: pathlib.Path,
  plan: Plan,
  data: Iterator,
  key: Key,
  clock: Clock,
  *,
  start_over: bool,
) -> tuple[State, Params]:
  """The state before the next step, and the frozen parameters: restored, or else initialised.

  data: is moved to the position at which the state was saved.
  key: of the initial parameters.
  start_over: see `resume.restore`.

  The config is written to the workdir, and the frozen parameters of a new run.
  """
  with clock.during('restore'):
    state = resume.restore(workdir, plan.state, data, log, start_over=start_over)
    frozen = resume.restore_frozen(workdir, plan.frozen) if state else None
  is_new = state is None
  if is_new:
    state, frozen = initialise(plan, load_parent(plan.config, plan.mesh), key)
  checkpoint.save_config(workdir, plan.config)
  if is_new:
    resume.save_frozen(workdir, frozen)
  return state, frozen


def load_parent(config: ConfigDict, mesh: jax.sharding.Mesh) -> Params:
  """The parent's averaged and frozen parameters, sharded over the mesh; {} without a parent."""
  if not config.init_from:
    return {}
  shardings = lambda shapes: fsdp(shapes, mesh, config.shard_above)
  _, params, _ = checkpoint.load(pathlib.Path(config.init_from), shardings)
  return params


def require_parent(workdir: pathlib.Path, config: ConfigDict) -> None:
  """UserError unless the model in the workdir can be the parent of a run of this config."""
  require_same_texts(workdir, config)
  if config.get('distill'):
    require_teacher(workdir, config)


def require_teacher(workdir: pathlib.Path, config: ConfigDict) -> None:
  """UserError unless a student of this config computes what the model in the workdir does."""
  old, new = map(_teacher_settings, (checkpoint.load_config(workdir), config))
  if differ := sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)):
    has = ', '.join(f'{key}={old[key]}' if key in old else f'no {key}' for key in differ)
    raise UserError(f'{workdir} cannot be the teacher of this student, because it has {has}.')


def _teacher_settings(config: ConfigDict) -> dict:
  """The keys that say what a model computes, which its student has to share.

  Configs of earlier versions lack keys that are empty.
  """
  keys = ('schedule', 'model', 'residual', 'degrade')
  settings = {key: config[key] for key in keys if config.get(key)}
  named = flatten_dict(json.loads(ConfigDict(settings).to_json()), sep='.')
  # What changes no more than rounding, and what only training uses.
  for key in ('model.dtype', 'model.remat', 'degrade.level'):
    named.pop(key, None)
  return {'stage': model_stage(config)} | {key: value for key, value in named.items() if value}


def require_same_texts(workdir: pathlib.Path, config: ConfigDict) -> None:
  """UserError unless the parent in the workdir gets its texts encoded as the config says."""
  old, new = text_settings(checkpoint.load_config(workdir)), text_settings(config)
  if differ := sorted(key for key in old if old[key] != new[key]):
    needed = ' '.join(f'--config.text.{key}={old[key]}' for key in differ)
    raise UserError(f'{workdir} was trained with other text settings; it needs {needed}.')


def text_settings(config: ConfigDict) -> dict:
  """The keys of `config.text` that change what a model gets for a text."""
  source = config.text.get('source', 'hashed')
  if source not in ('', 'hashed'):
    source = str(pathlib.Path(source).resolve())
  # Hashed words are always masked.  Configs from before there was this key do not mask.
  mask_padding = source != 'hashed' and config.text.get('mask_padding', False)
  return {
    'source': source,
    'tokens': config.text.tokens,
    'width': config.text.width,
    'mask_padding': mask_padding,
  }
