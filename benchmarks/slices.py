r"""Forecasts the paper's size on TPU slices, none of which is needed: docs/performance.md has them.

  python -m benchmarks.slices --folder=forecasts

Every row is a program that `train.py` or `sample.py` compiles with `--compile_for`, in a process of
its own: some need 17 GB, and half an hour or more on two cores.  What is in
the folder already is not done again.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from absl import flags

from core import command
from core.errors import UserError

_FOLDER = flags.DEFINE_string('folder', None, 'Where each row is kept, as JSON.', required=True)
_ROWS = flags.DEFINE_list('rows', None, 'Some of them alone.')

BASE = ('train.py', '--config=configs/t2v.py:paper')
LARGE = ('train.py', '--config=configs/ssr.py:paper')
VIDEO = (
  'sample.py',
  '--config=configs/t2v.py:paper',
  '--ssr_config=configs/ssr.py:paper',
)
# Keyframes, as a cascade makes them: the same network without resampling in time.
KEYFRAMES = ('--config.data.frames=16', '--config.model.temporal_strides=(1, 1, 1, 1, 1)')
# Two chips to a clip, where one has too little memory.
SHARED = ("--config.mesh=(('data',1),('fsdp',128),('time',2))",)
# One step of sampling on one host, whose chips make a clip each.
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
      compiled(ROWS[name], path)
    for found in json.loads(path.read_text()):
      print(row(name, found), flush=True)


def compiled(arguments: Sequence[str], path: pathlib.Path) -> None:
  """Writes what the program would do; RuntimeError where it can't be compiled."""
  line = [sys.executable, *arguments, f'--output={path.absolute()}']
  done = subprocess.run(line, cwd=command.ROOT, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f'{" ".join(arguments)}: {done.stderr[-2000:]}')


def row(name: str, found: dict) -> str:
  """A line of a table in Markdown."""
  memory, seconds = found['memory'], found['seconds']
  cells = (
    name,
    found['program'],
    f'{found["slice"]}, {"x".join(map(str, found["mesh"].values()))}',
    f'{memory["peak_gib"]:.1f} of {memory["hbm_gib"]:.0f} GiB',
    f'{found["model_flops"]:.3g}',
    f'{seconds["computing"]:.3g} + {seconds["sending"]:.2g} s',
    f'{found["mfu"]:.1%}',
  )
  return f'| {" | ".join(cells)} |'


if __name__ == '__main__':
  command.run(main)
