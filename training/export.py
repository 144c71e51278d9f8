"""Copies from a workdir what sampling needs.

python -m training.export --workdir=DIR --out=DIR
"""

import pathlib

import jax
from absl import flags

from core import command
from core.folder import new_folder
from core.params import count
from training import checkpoint

_WORKDIR = flags.DEFINE_string('workdir', None, 'Where the model was trained.')
_OUT = flags.DEFINE_string('out', None, 'A new folder, a workdir to sample or to train from.')
_DTYPE = flags.DEFINE_enum('dtype', 'bfloat16', ['bfloat16', 'float32'], 'Of what is stored.')


def export(workdir: pathlib.Path, out: pathlib.Path, dtype: str) -> int:
  """Writes the config and the averaged parameters with the frozen ones; returns their number.

  ValueError where `out` exists or `workdir` holds no model.  `out` appears whole or not at all.
  """
  with new_folder(out) as incomplete:
    config, params, step = checkpoint.load(workdir)
    params = jax.tree.map(lambda p: p.astype(dtype), params)
    checkpoint.write_model(incomplete, config, params, step)
  return count(params)


def main() -> None:
  if not _WORKDIR.value or not _OUT.value:
    raise ValueError('Both --workdir=DIR and --out=DIR are needed.')
  n = export(pathlib.Path(_WORKDIR.value), pathlib.Path(_OUT.value), _DTYPE.value)
  print(f'{_OUT.value}: {n:,} parameters')


if __name__ == '__main__':
  command.run(main)
