"""Experiments: stages that start from another stage's model, in one process and in several."""

import pathlib
import subprocess
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks import runs
from core import video

# The stage that each stage starts from, and the changes to its config.
PARENTS = {'t2i': '', 't2v': 't2i', 't2v_masked': 't2v', 'ssr_image': '', 'ssr': 'ssr_image'}
PARENTS |= {'style': 't2i'}
ONE_FRAME = {'data.frames': 1}
CHANGES = {
  't2i': ONE_FRAME,
  't2v': {'data.frames': 4},
  't2v_masked': {'data.frames': 4},
  'ssr_image': ONE_FRAME | {'data.shorter_side': 16},
  'ssr': {'data.frames': 4, 'data.shorter_side': 16},
  'style': ONE_FRAME,
}
STEPS = 5
DEVICES = 4  # of the single process that trains the models to start from


def begin(
  folder: pathlib.Path,
  stages: Sequence[str] = ('t2v', 't2v_masked', 'ssr', 'style'),
  counts: Sequence[int] = (2, 4),
) -> str:
  """Checks that stages have the same losses in several processes of one device as in one process.

  Returns the result in words, or raises AssertionError.
  """
  error = 0.0
  for stage in stages:
    want = runs.losses(_trained(folder, stage))
    for count in counts:
      workdir = folder / f'{stage}_in_{count}'
      for process in _start(folder, stage, workdir, count):
        runs.finished(process, workdir)
      got = runs.losses(workdir)
      runs.require(sorted(got) == sorted(want), f'{workdir} has the steps {sorted(got)}')
      error = max(error, *(abs(got[i] / want[i] - 1) for i in want))
      runs.require(error <= 1e-5, f'{workdir}: losses differ by {error:.1e}')
  numbers = ' and '.join(map(str, counts))
  return f'{", ".join(stages)} in {numbers} processes: losses to {error:.1e}'


def _trained(folder: pathlib.Path, stage: str) -> pathlib.Path:
  """The workdir of a stage, which is trained in one process if it is not there yet."""
  workdir = folder / stage
  if not workdir.exists():
    if PARENTS[stage]:
      _trained(folder, PARENTS[stage])
    for process in _start(folder, stage, workdir, 1):
      runs.finished(process, workdir)
  return workdir


def _start(
  folder: pathlib.Path, stage: str, workdir: pathlib.Path, count: int
) -> list[subprocess.Popen]:
  options = [f'--config.init_from={folder / PARENTS[stage]}'] if PARENTS[stage] else []
  if stage == 'style':
    picture = folder / 'style.png'
    video.write(picture, np.arange(20 * 24 * 3).reshape(1, 20, 24, 3).astype('uint8'))
    options += [f'--config.style.image={picture}', '--config.style.descriptor=in neon style']
  changes: Mapping = CHANGES[stage] | {
    'steps': STEPS,
    'save_every': STEPS,
    'evaluate_every': STEPS,
    'mesh': "(('data',1),('fsdp',-1))",
  }
  line = dict(config=f'configs/{stage}.py:tiny', options=options)
  if count == 1:
    return [runs.start(workdir, changes, devices=DEVICES, **line)]
  return runs.many_processes(count, workdir, changes, **line)
