"""Copies what sampling needs from a workdir to a new folder.

python -m training.export --workdir=DIR --out=DIR
"""

import core.early  # noqa: F401

# isort: split
import pathlib

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import flags
from ml_collections import ConfigDict

from core import command
from core.folder import new_folder
from core.params import count
from core.typing import Params
from core.writable import require_room
from training import checkpoint
from training.arrays import save_args


def export(workdir: pathlib.Path, out: pathlib.Path, dtype: str) -> str:
  """Writes the config, the averaged parameters and the frozen ones; returns a description.

  The description has the number of parameters and the step of the run.  UserError if `out` exists
  or `workdir` holds no model.  `out` is written completely or not at all.
  """
  with new_folder(out) as incomplete:
    config, params, step = checkpoint.load(workdir)
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    write_model(incomplete, config, params, step)
  return f'{count(params):,} parameters, {checkpoint.progress(config, step)}'


def write_model(workdir: pathlib.Path, config: ConfigDict, params: Params, step: int) -> None:
  """Writes a workdir with a model and nothing else, from which one can sample or start a run.

  This needs little memory besides the parameters: few are written at once, to small files, and none
  is copied, as arrays of numpy would be.
  """
  checkpoint.save_config(workdir, config)
  sizes = [p.nbytes for p in jax.tree.leaves(params)]
  require_room(workdir, sum(sizes))
  # Arrays stay in memory until their file is full; too many files are slow.
  file = max(2**22, sum(sizes) // 512)
  handlers = {'ema': ocp.PyTreeCheckpointHandler(save_concurrent_gb=(max(sizes) + file) / 1e9)}
  options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
  params = jax.tree.map(jnp.asarray, params)
  with ocp.CheckpointManager(
    checkpoint.folder(workdir), options=options, item_handlers=handlers
  ) as saving:
    ema = ocp.args.PyTreeSave(params, save_args(params), file)
    saving.save(step, args=ocp.args.Composite(ema=ema))
  # Orbax writes the path of this machine into these files, of which only the names matter.
  for marker in workdir.rglob('commit_success.txt'):
    marker.write_text('')


def _define_flags() -> None:
  flags.DEFINE_string(
    'workdir', None, 'The model is copied from the workdir of this run.', required=True
  )
  flags.DEFINE_string(
    'out',
    None,
    'The model is written to this new folder, a workdir to sample or to train from.',
    required=True,
  )
  flags.DEFINE_enum(
    'dtype', 'bfloat16', ['bfloat16', 'float32'], 'The parameters are stored in this type.'
  )


def main() -> None:
  workdir, out = pathlib.Path(flags.FLAGS.workdir), pathlib.Path(flags.FLAGS.out)
  description = export(workdir, out, flags.FLAGS.dtype)
  print(f'{out}: {description}')


if __name__ == '__main__':
  _define_flags()
  command.run(main)
