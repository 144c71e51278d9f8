r"""Measures how many clips a second I3D sees here, beside the same network in PyTorch, on a CPU.

  python -m venv ENV; ENV/bin/pip install torch numpy
  python -m benchmarks.features --torch_python=ENV/bin/python
  python -m benchmarks.features --clips=2048 --videos=DIR

Both have all cores and compute in float32 on clips that are in memory, and they take turns; the
ratio is of their medians.  PyTorch has its channels last where that is faster: it is measured both
ways.  With `--clips` that many clips, of the videos of a folder over and over, are read, prepared,
seen and summed up as FVD does it, and the most memory that the process ever had is printed along
the way.
"""

import contextlib
import functools
import itertools
import os
import pathlib
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from benchmarks.lumiere_pytorch import Timed, check, cpu, theirs
from core import command
from core.errors import UserError
from evaluation import frechet
from evaluation.features.networks import Features, open_features
from evaluation.videos import Folder, Reading, batched, clips, open_folder

WARM_UP = 1  # turns that do not count
WORKER = pathlib.Path(__file__).with_name('features_worker.py')
HOW = 'make one: python -m venv ENV; ENV/bin/pip install torch numpy'
LINES = 8  # of memory, along the way


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


def stream(i3d: Features, folder: Folder, batch: int, frames: int) -> None:
  """Sums up what is seen in the videos, and prints the memory that it took along the way."""
  skipped, begin, done = {}, time.perf_counter(), 0
  found = clips(folder, Reading(frames), i3d.prepare, skip=skipped.__setitem__)
  parts = []
  for some in batched(found, batch):
    parts = [functools.reduce(frechet.joined, [*parts, frechet.moments(i3d.see(some))])]
    before, done = done, done + len(some)
    if before * LINES // len(folder.files) < done * LINES // len(folder.files) or not before:
      rate = done / (time.perf_counter() - begin)
      most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
      print(f'{done:6} clips  {rate:.2f} a second  at most {most:.3f} GiB', flush=True)
  print(f'{parts[0].count} clips, {len(skipped)} left out; {cpu()}; jax {jax.__version__}')


@contextlib.contextmanager
def repeated(folder: Folder, count: int) -> Iterator[Folder]:
  """So many names of the videos, over and over."""
  with tempfile.TemporaryDirectory() as name:
    again, files = pathlib.Path(name), itertools.islice(itertools.cycle(folder.files), count)
    for i, file in enumerate(files):
      (again / f'{i:06}{pathlib.Path(file).suffix}').symlink_to((folder.path / file).resolve())
    yield open_folder(again)


def main() -> None:
  f = flags.FLAGS
  if not f.clips:
    check(f.torch_python, HOW)
    i3d = open_features('i3d', f.weights, f.batch)
    print(compare(i3d, f.batch, f.frames, f.runs, f.torch_python))
    return
  if not f.videos:
    raise UserError('--clips needs --videos=DIR.')
  with repeated(open_folder(f.videos), f.clips) as folder:
    stream(open_features('i3d', f.weights, f.batch), folder, f.batch, f.frames)


if __name__ == '__main__':
  flags.DEFINE_string('torch_python', None, 'The Python of an environment with torch.')
  flags.DEFINE_string('weights', 'random:0', 'Of I3D; their values take no time.')
  flags.DEFINE_integer('frames', 16, 'Of each clip.', lower_bound=9)
  flags.DEFINE_integer('batch', 2, 'Clips seen at once.', lower_bound=1)
  flags.DEFINE_integer('runs', 10, 'Turns of each that count.', lower_bound=1)
  flags.DEFINE_integer('clips', 0, 'So many are summed up instead, as FVD does it.', 0)
  flags.DEFINE_string('videos', None, 'A folder of videos of which these clips are.')
  command.run(main)
