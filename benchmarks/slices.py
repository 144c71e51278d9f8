r"""Forecasts the paper's scale on TPU slices, without a TPU, for docs/performance.md.

  python -m benchmarks.slices --folder=forecasts

Every row is a program that `train.py` or `sample.py` compiles with `--compile_for`, in a process of
its own.  Some need 17 GB and half an hour or more on two cores.  Rows that are already in the
folder are not compiled again.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from absl import flags

from core import command
from core.errors import UserError

_FOLDER = flags.DEFINE_string(
  'folder', None, 'Folder in which each row is stored as JSON.', required=True
)
_ROWS = flags.DEFINE_list('rows', None, 'Names of rows to compile; by default all.')

BASE = ('train.py', '--config=configs/t2v.py:paper')
LARGE = ('train.py', '--config=configs/ssr.py:paper')
VIDEO = (
  'sample.py',
  '--config=configs/t2v.py:paper',
  '--ssr_config=configs/ssr.py:paper',
)
# Keyframes of a cascade: the same network without resampling in time.
KEYFRAMES = ('--config.data.frames=16', '--config.model.temporal_strides=(1, 1, 1, 1, 1)')
# Two chips share a clip where one has too little memory.
SHARED = ("--config.mesh=(('data',1),('fsdp',128),('time',2))",)
# One sampling step on one host, whose chips generate one clip each.
ONE_STEP = ('--batch=4', '--compile_for=v5p:2x2x1', '--config.sampling.steps=1')

ROWS = {
  'base_v5p': (*BASE, '--compile_for=v5p:4x4x8'),
  'base_v6e': (*BASE, *SHARED, '--compile_for=v6e:16x16'),
  'large_v5p': (*LARGE, '--compile_for=v5p:4x4x8'),
  'base_keyframes_v5p': (*BASE, *KEYFRAMES, '--compile_for=v5p:4x4x8'),
  'video_v5p_8': (*VIDEO, '--compile_for=v5p:2x2x2'),
  'video_v5p_64': (*VIDEO, '--compile_for=v5p:4x4x4'),
  'clip': (*VIDEO[:2], *ONE_STEP),
  'keyframes': (*VIDEO[:2], *KEYFRAMES, *ONE_STEP),
}


def main() -> None:
  folder = pathlib.Path(_FOLDER.value)
  if unknown := sorted(set(_ROWS.value or ()) - set(ROWS)):
    raise UserError(f'Unknown rows: {", ".join(unknown)}.  Allowed: {", ".join(ROWS)}.')
  folder.mkdir(parents=True, exist_ok=True)
  for name in _ROWS.value or ROWS:
    path = folder / f'{name}.json'
    if not path.exists():
      forecast(ROWS[name], path)
    for result in json.loads(path.read_text()):
      print(row(name, result), flush=True)


def forecast(arguments: Sequence[str], path: pathlib.Path) -> None:
  """Writes the forecast of a program to `path`; RuntimeError if it can't be compiled."""
  line = [sys.executable, *arguments, f'--output={path.absolute()}']
  done = subprocess.run(line, cwd=command.ROOT, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f'{" ".join(arguments)}: {done.stderr[-2000:]}')


def row(name: str, result: dict) -> str:
  """A row of a Markdown table."""
  memory, seconds = result['memory'], result['seconds']
  cells = (
    name,
    result['program'],
    f'{result["slice"]}, {"x".join(map(str, result["mesh"].values()))}',
    f'{memory["peak_gib"]:.1f} of {memory["hbm_gib"]:.0f} GiB',
    f'{result["model_flops"]:.3g}',
    f'{seconds["computing"]:.3g} + {seconds["sending"]:.2g} s',
    f'{result["mfu"]:.1%}',
  )
  return f'| {" | ".join(cells)} |'


if __name__ == '__main__':
  command.run(main)
