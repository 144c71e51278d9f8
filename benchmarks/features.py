r"""Measures how many clips a second I3D processes, compared with the same network in PyTorch.

  python -m venv ENV; ENV/bin/pip install torch numpy
  python -m benchmarks.features --torch_python=ENV/bin/python
  python -m benchmarks.features --clips=2048 --videos=DIR

Both run on all cores of a CPU, in float32, on clips that are in memory, and they take turns; the
ratio is that of their medians.  PyTorch is measured with both memory formats.  With `--clips`, that
many clips are read from the videos of a folder, which are repeated, and processed as for FVD; the
peak memory of the process is printed from time to time.
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

from benchmarks.lumiere_pytorch import Timed, check, cpu, torch_worker
from core import command
from core.errors import UserError
from evaluation.clips import Reading, batched, clips
from evaluation.feature_statistics import feature_moments, merge_moments
from evaluation.features.networks import FeatureNetwork, open_features
from evaluation.folder import Folder, open_folder

WARM_UP = 1  # turns before the measured ones
WORKER = pathlib.Path(__file__).with_name('features_worker.py')
HOW = 'make one: python -m venv ENV; ENV/bin/pip install torch numpy'
LINES = 8  # that are printed with `--clips`


def ours(i3d: FeatureNetwork, batch: int, frames: int) -> Timed:
  """Returns a function that measures the seconds for a batch of clips."""
  clips = np.random.default_rng(0).uniform(-1, 1, (batch, frames, 224, 224, 3)).astype(np.float32)

  def seconds(_):
    begin = time.perf_counter()
    i3d.extract(clips)
    return time.perf_counter() - begin

  return seconds


def compare(i3d: FeatureNetwork, batch: int, frames: int, runs: int, python: str) -> str:
  """A Markdown table of the clips a second of each implementation, which take turns."""
  shape = {'batch': batch, 'frames': frames, 'threads': os.cpu_count()}
  sides = {'ours': ours(i3d, batch, frames)}
  with contextlib.ExitStack() as stack:
    for name, last in {'PyTorch': False, 'PyTorch, channels last': True}.items():
      about, sides[name] = stack.enter_context(
        torch_worker(python, shape | {'channels_last': last}, WORKER)
      )
    times = {name: [] for name in sides}
    for i in tqdm(range(WARM_UP + runs), unit='turn'):
      for name, seconds in sides.items():
        took = seconds('see')
        if i >= WARM_UP:
          times[name].append(took)
  best = min(statistics.median(took) for name, took in times.items() if name != 'ours')
  rows = [
    '| | clips a second, median | seconds a clip, least to most | ratio |',
    '|---|---|---|---|',
  ]
  for name, took in times.items():
    median = statistics.median(took)
    rows.append(
      f'| {name} | {batch / median:.3f} | {min(took) / batch:.3f} to {max(took) / batch:.3f} '
      f'| {best / median:.2f} |'
    )
  rows.append(f'{runs} turns of {batch} x {frames} frames; {about["threads"]} threads of PyTorch')
  rows.append(f'{cpu()}; jax {jax.__version__}, torch {about["versions"]["torch"]}')
  return '\n'.join(rows)


def stream(i3d: FeatureNetwork, folder: Folder, batch: int, frames: int) -> None:
  """Computes the moments of the features of all clips, and prints speed and memory meanwhile."""
  skipped, begin, done = {}, time.perf_counter(), 0
  read = clips(folder, Reading(frames), i3d.prepare, skip=skipped.__setitem__)
  parts = []
  for chunk in batched(read, batch):
    parts = [functools.reduce(merge_moments, [*parts, feature_moments(i3d.extract(chunk))])]
    before, done = done, done + len(chunk)
    if before * LINES // len(folder.files) < done * LINES // len(folder.files) or not before:
      rate = done / (time.perf_counter() - begin)
      most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
      print(f'{done:6} clips  {rate:.2f} a second  at most {most:.3f} GiB', flush=True)
  print(f'{parts[0].count} clips, {len(skipped)} left out; {cpu()}; jax {jax.__version__}')


@contextlib.contextmanager
def repeated(folder: Folder, count: int) -> Iterator[Folder]:
  """A temporary folder of `count` links to the videos, which are repeated."""
  with tempfile.TemporaryDirectory() as name:
    links, files = pathlib.Path(name), itertools.islice(itertools.cycle(folder.files), count)
    for i, file in enumerate(files):
      (links / f'{i:06}{pathlib.Path(file).suffix}').symlink_to((folder.path / file).resolve())
    yield open_folder(links)


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
  flags.DEFINE_string('torch_python', None, 'Path of the Python of an environment with torch.')
  flags.DEFINE_string(
    'weights', 'random:0', 'Weights of I3D; the speed does not depend on their values.'
  )
  flags.DEFINE_integer('frames', 16, 'Number of frames of each clip.', lower_bound=9)
  flags.DEFINE_integer('batch', 2, 'Number of clips in a batch.', lower_bound=1)
  flags.DEFINE_integer(
    'runs', 10, 'Number of measured turns of each implementation.', lower_bound=1
  )
  flags.DEFINE_integer(
    'clips', 0, 'If not 0, process this many clips of --videos as for FVD instead.', 0
  )
  flags.DEFINE_string('videos', None, 'Folder of the videos for --clips.')
  command.run(main)
