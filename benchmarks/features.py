r"""Measures how many clips a second I3D sees here, beside the same network in PyTorch, on a CPU.

  python -m venv ENV; ENV/bin/pip install torch numpy
  python -m benchmarks.features --torch_python=ENV/bin/python
  python -m benchmarks.features --clips=2048

Both have all cores and compute in float32 on clips that are in memory, and they take turns; the
ratio is of their medians.  PyTorch has its channels last where that is faster: it is measured both
ways.  With `--clips` that many clips are drawn, prepared and seen one batch after the other, as
FVD does, and the memory of the process is printed along the way.
"""

import contextlib
import os
import pathlib
import statistics
import time

import jax
import numpy as np
import psutil
from absl import flags
from tqdm import tqdm

from benchmarks.lumiere_pytorch import Timed, check, cpu, theirs
from core import command
from evaluation.features import Features, open_features

WARM_UP = 1  # turns that do not count
WORKER = pathlib.Path(__file__).with_name('features_worker.py')
HOW = 'make one: python -m venv ENV; ENV/bin/pip install torch numpy'
LINES = 8  # of memory, along the way
DECODED = (240, 320)  # pixels of a clip before it is prepared, as UCF101 has


def ours(i3d: Features, batch: int, frames: int) -> Timed:
  """The seconds in which so many clips are seen."""
  clips = np.random.default_rng(0).uniform(-1, 1, (batch, frames, 224, 224, 3)).astype(np.float32)

  def seconds(_):
    begin = time.perf_counter()
    i3d.see(clips)
    return time.perf_counter() - begin

  return seconds


def compare(i3d: Features, batch: int, frames: int, runs: int, python: str) -> str:
  """A table in Markdown: clips a second of each side, which take turns."""
  shape = {'batch': batch, 'frames': frames, 'threads': os.cpu_count()}
  sides = {'ours': ours(i3d, batch, frames)}
  with contextlib.ExitStack() as stack:
    for name, last in {'PyTorch': False, 'PyTorch, channels last': True}.items():
      about, sides[name] = stack.enter_context(
        theirs(python, shape | {'channels_last': last}, WORKER)
      )
    found = {name: [] for name in sides}
    for i in tqdm(range(WARM_UP + runs), unit='turn'):
      for name, seconds in sides.items():
        took = seconds('see')
        if i >= WARM_UP:
          found[name].append(took)
  best = min(statistics.median(took) for name, took in found.items() if name != 'ours')
  rows = [
    '| | clips a second, median | seconds a clip, least to most | ratio |',
    '|---|---|---|---|',
  ]
  for name, took in found.items():
    median = statistics.median(took)
    rows.append(
      f'| {name} | {batch / median:.3f} | {min(took) / batch:.3f} to {max(took) / batch:.3f} '
      f'| {best / median:.2f} |'
    )
  rows.append(f'{runs} turns of {batch} x {frames} frames; {about["threads"]} threads of PyTorch')
  rows.append(f'{cpu()}; jax {jax.__version__}, torch {about["versions"]["torch"]}')
  return '\n'.join(rows)


def stream(i3d: Features, clips: int, batch: int, frames: int) -> None:
  """Sees so many clips, and prints the memory of the process along the way."""
  process, rng = psutil.Process(), np.random.default_rng(0)
  seen, begin, peak, printed = [], time.perf_counter(), 0.0, 0
  for first in range(0, clips, batch):
    n = min(batch, clips - first)
    drawn = (rng.integers(0, 256, (frames, *DECODED, 3), np.uint8) for _ in range(n))
    seen.append(i3d.see(np.stack([i3d.prepare(clip) for clip in drawn])))
    peak = max(peak, process.memory_info().rss / 2**30)
    done = first + n
    if done * LINES // clips > printed or done == n:
      printed = done * LINES // clips
      rate = done / (time.perf_counter() - begin)
      print(f'{done:6} clips  {rate:.2f} a second  peak {peak:.3f} GiB', flush=True)
  print(
    f'features {np.concatenate(seen).shape}, standard deviation {np.concatenate(seen).std():.3f}'
  )


def main() -> None:
  f = flags.FLAGS
  if not f.clips:
    check(f.torch_python, HOW)
  i3d = open_features('i3d', f.weights, f.batch)
  if f.clips:
    stream(i3d, f.clips, f.batch, f.frames)
  else:
    print(compare(i3d, f.batch, f.frames, f.runs, f.torch_python))


if __name__ == '__main__':
  flags.DEFINE_string('torch_python', None, 'The Python of an environment with torch.')
  flags.DEFINE_string('weights', 'random:0', 'Of I3D; their values take no time.')
  flags.DEFINE_integer('frames', 16, 'Of each clip.', lower_bound=9)
  flags.DEFINE_integer('batch', 2, 'Clips seen at once.', lower_bound=1)
  flags.DEFINE_integer('runs', 10, 'Turns of each that count.', lower_bound=1)
  flags.DEFINE_integer('clips', 0, 'So many are seen instead, one batch after the other.', 0)
  command.run(main)
