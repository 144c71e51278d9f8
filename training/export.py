"""Copies from a workdir what sampling needs.

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
  """Writes the config and the averaged parameters with the frozen ones; returns what there is to
  say of them: how many they are, and of which step of the run.

  ValueError where `out` exists or `workdir` holds no model.  `out` appears whole or not at all.
  """
  with new_folder(out) as incomplete:
    config, params, step = checkpoint.load(workdir)
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    write_model(incomplete, config, params, step)
  return f'{count(params):,} parameters, {checkpoint.progress(config, step)}'


def write_model(workdir: pathlib.Path, config: ConfigDict, params: Params, step: int) -> None:
  """Writes a workdir that has a model and nothing else; it can be sampled and started from.

  Little but the parameters is in memory meanwhile: few are written at once, to small files, and
  none is copied, as those of numpy would be.
  """
  checkpoint.save_config(workdir, config)
  sizes = [p.nbytes for p in jax.tree.leaves(params)]
  require_room(workdir, sum(sizes))
  # What is written is in memory until its file is full; too many files are slow.
  file = max(2**22, sum(sizes) // 512)
  handlers = {'ema': ocp.PyTreeCheckpointHandler(save_concurrent_gb=(max(sizes) + file) / 1e9)}
  options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
  params = jax.tree.map(jnp.asarray, params)
  with ocp.CheckpointManager(
    checkpoint.folder(workdir), options=options, item_handlers=handlers
  ) as saving:
    ema = ocp.args.PyTreeSave(params, save_args(params), file)
    saving.save(step, args=ocp.args.Composite(ema=ema))
  for said in workdir.rglob('commit_success.txt'):  # of which only the name counts
    said.write_text('')  # where it was saved is nobody's business


def _define_flags() -> None:
  flags.DEFINE_string('workdir', None, 'Where the model was trained.', required=True)
  flags.DEFINE_string(
    'out', None, 'A new folder, a workdir to sample or to train from.', required=True
  )
  flags.DEFINE_enum('dtype', 'bfloat16', ['bfloat16', 'float32'], 'Of what is stored.')


def main() -> None:
  given = flags.FLAGS
  said = export(pathlib.Path(given.workdir), pathlib.Path(given.out), given.dtype)
  print(f'{given.out}: {said}')


if __name__ == '__main__':
  _define_flags()
  command.run(main)
