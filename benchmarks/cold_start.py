r"""Measures the seconds from a command to its first training step, and to its first video.

  python -m benchmarks.cold_start

Both are measured with an empty compilation cache of JAX, and again with the cache that this filled.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks import runs
from core import command

_CONFIG = flags.DEFINE_string('config', 'configs/t2i.py:demo', 'Config of the model to train.')


def main() -> None:
  print('| cache | first step | first video |')
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder / 'cache')
    for name in ('empty', 'full'):
      cells = (first_step(folder / f'run_{name}'), first_video(folder / f'{name}.mp4'))
      print(f'| {name} | {cells[0]:.1f} s | {cells[1]:.1f} s |', flush=True)


def first_step(workdir: pathlib.Path) -> float:
  """Seconds from the command until the first step is logged."""
  line = [sys.executable, 'train.py', f'--config={_CONFIG.value}', f'--workdir={workdir}']
  begin = time.monotonic()
  process = subprocess.Popen(
    [*line, '--config.log_every=1', '--config.evaluate_every=0', '--config.sample_every=0'],
    cwd=command.ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  if not runs.wait_until(lambda: runs.losses(workdir), process):
    raise RuntimeError(f'The run ended with {process.returncode} before its first step.')
  seconds = time.monotonic() - begin
  runs.kill(process)
  return seconds


def first_video(path: pathlib.Path) -> float:
  """Seconds from the command until a video of the shipped models is written."""
  begin = time.monotonic()
  subprocess.run(
    [sys.executable, 'sample.py', 'text_to_video', f'--output={path}'],
    cwd=command.ROOT,
    check=True,
    capture_output=True,
  )
  return time.monotonic() - begin


if __name__ == '__main__':
  command.run(main)
