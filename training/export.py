"""Copies from a workdir what sampling needs.

python -m training.export --workdir=DIR --out=DIR
"""

import pathlib
import shutil

import jax
import orbax.checkpoint as ocp
from absl import flags

from core import command
from core.params import count
from training import checkpoint

_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the model was trained.')
_OUT = flags.DEFINE_string('out', None, 'A new folder, a workdir to sample or to train from.')
_DTYPE = flags.DEFINE_enum('dtype', 'bfloat16', ['bfloat16', 'float32'], 'Of what is stored.')


def export(workdir: pathlib.Path, out: pathlib.Path, dtype: str) -> int:
  """Writes the config and the averaged parameters with the frozen ones; returns their number.

  ValueError where `out` exists or `workdir` holds no model.  `out` appears whole or not at all.
  """
  if out.exists():
    raise ValueError(f'{out} exists; --out must be a new folder.')
  config, params, step = checkpoint.load(workdir)
  incomplete = out.with_name(out.name + '.incomplete')
  shutil.rmtree(incomplete, ignore_errors=True)
  checkpoint.save_config(incomplete, config)
  params = jax.tree.map(lambda p: p.astype(dtype), params)
  with checkpoint.manager(incomplete) as checkpoints:
    checkpoints.save(step, args=ocp.args.Composite(ema=ocp.args.StandardSave(params)))
  for said in incomplete.rglob('commit_success.txt'):  # of which only the name counts
    said.write_text('')  # where it was saved is nobody's business
  incomplete.rename(out)
  return count(params)


def main() -> None:
  if not _WORKDIR.value or not _OUT.value:
    raise ValueError('Both --workdir=DIR and --out=DIR are needed.')
  n = export(pathlib.Path(_WORKDIR.value), pathlib.Path(_OUT.value), _DTYPE.value)
  print(f'{_OUT.value}: {n:,} parameters')


if __name__ == '__main__':
  command.run(main)
