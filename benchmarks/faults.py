"""Runs whose disk, data or code fails them.

Each function returns what came out, or raises AssertionError.
"""

import contextlib
import pathlib
import shutil
import subprocess

import numpy as np
import psutil
from tqdm import tqdm

from benchmarks import runs
from data.pipeline import batches, open_source
from training import checkpoint, integrity
from training.phases import STALLED


def damage(folder: pathlib.Path) -> str:
  """A damaged checkpoint is named and the one before it used; the run ends in the same bits."""
  want = runs.whole(folder)
  latest = folder / 'whole/checkpoints' / str(runs.STEPS)
  files = sorted((p for p in latest.rglob('*') if p.is_file()), key=lambda p: -p.stat().st_size)
  largest, listed = files[0].relative_to(latest), pathlib.Path('train/_METADATA')
  ways = {
    'the largest file cut': lambda f: (f / largest).write_bytes((f / largest).read_bytes()[:-9]),
    'the largest file emptied': lambda f: (f / largest).write_bytes(b''),
    'the largest file removed': lambda f: (f / largest).unlink(),
    'a byte of the largest file flipped': lambda f: _flip(f / largest),
    'metadata cut': lambda f: (f / listed).write_bytes((f / listed).read_bytes()[:-9]),
    'metadata emptied': lambda f: (f / listed).write_bytes(b''),
    'metadata removed': lambda f: (f / listed).unlink(),
    'a byte of metadata flipped': lambda f: _flip(f / listed),
    'a part removed': lambda f: shutil.rmtree(f / 'ema'),
    'the folder renamed': lambda f: f.rename(f.with_name('old')),
  }
  for i, (way, do) in enumerate(ways.items()):
    workdir = folder / f'damaged{i}'
    shutil.copytree(folder / 'whole', workdir)
    do(workdir / 'checkpoints' / str(runs.STEPS))
    runs.finished(runs.start(workdir), workdir)
    said = runs.log(workdir).read_text()
    named = (
      f'checkpoints/{runs.STEPS} is damaged' in said or 'checkpoints/old is not a whole' in said
    )
    runs.require(named, f'{way}: not named')
    runs.require(
      runs.starts(workdir)[-1] == runs.STEPS - runs.EVERY, f'{way}: went on from elsewhere'
    )
    runs.require(runs.arrays(workdir, runs.STEPS) == want, f'{way}: ends otherwise')
    shutil.rmtree(workdir)
  return f'{len(ways)} of {len(ways)} ways named, the one before used, the same bits at the end'


def full_disk(folder: pathlib.Path) -> str:
  """A disk that takes nothing more is told of, and the run goes on; what was saved stays whole.

  It takes rights to mount one.
  """
  workdir = folder / 'full'
  workdir.mkdir()
  subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', workdir], check=True)
  try:
    process = runs.start(workdir, {'steps': 80, 'watchdog.save': 20.0, 'watchdog.step': 20.0})
    runs.wait_until(lambda: (workdir / 'checkpoints/10').exists(), process)
    with contextlib.suppress(OSError), (workdir / 'ballast').open('wb', buffering=0) as file:
      while True:
        file.write(bytes(4096))
    runs.wait_until(lambda: 'could not be saved' in runs.log(workdir).read_text(), process)
    (workdir / 'ballast').unlink()
    runs.finished(process, workdir)
    said = runs.log(workdir).read_text()
    runs.require('The run goes on; the next checkpoint may do.' in said, 'it was not told of')
    runs.require(checkpoint.latest_step(workdir) == 80, 'nothing was saved later')
    runs.require(not integrity.unfinished(workdir / 'checkpoints'), 'something half-written stays')
  finally:
    subprocess.run(['umount', workdir], check=True)
  return (
    f'told of {said.count("could not be saved")} times; the run went on, and saved when it could'
  )


NAN = """
import numpy as np, train
put = train.put_batch
counted = []
def poisoned(batch, mesh):
  counted.append(0)
  if len(counted) in {steps}:
    batch = batch | {{'text': np.full_like(batch['text'], np.nan)}}
  return put(batch, mesh)
train.put_batch = poisoned
"""


def not_numbers(folder: pathlib.Path) -> str:
  """A batch that is not finite is left out; ten in a row end the run, which names them."""
  # The first two batches that are put on the devices are of samples and of evaluation: step 8 has
  # the tenth.
  one, ten = folder / 'nan', folder / 'nans'
  runs.finished(runs.start(one, before=NAN.format(steps='{10}')), one)
  said = runs.log(one).read_text()
  runs.require(
    'step 8: loss nan, gradient norm nan; its update is left out, 1 so far' in said, said
  )
  runs.require(np.isfinite(runs.losses(one)[runs.STEPS]), 'the last loss is not finite')
  process = runs.start(ten, before=NAN.format(steps='range(15, 99)'))
  runs.require(process.wait() != 0, 'the run went on')
  said = runs.log(ten).read_text()
  runs.require('The updates of steps 13 to 22 were left out' in said, said[-800:])
  return 'one is left out, counted and named; of ten in a row steps 13 to 22 are named'


# Each hangs at one call of a function, the data at its hundredth clip.
HANG = """
import time
from {module} import {owner}
called, act = iter(range(10**9)), {owner}.{name}
def hang(*args):
  return act(*args) if next(called) < {calls} else time.sleep(999)
{owner}.{name} = hang
"""
HANGS = {
  'data': HANG.format(module='data.synthetic', owner='MovingShapes', name='draw', calls=100),
  'save': HANG.format(module='training', owner='checkpoint', name='save', calls=0),
  'step': HANG.format(module='training', owner='guard', name='report', calls=0),
}


def hangs(folder: pathlib.Path) -> str:
  """What hangs is ended by the watchdog, and the stacks say where it was."""
  for phase, code in HANGS.items():
    workdir = folder / f'hangs_in_{phase}'
    process = runs.start(workdir, {f'watchdog.{phase}': 5.0}, before=code)
    runs.require(process.wait(timeout=300) == STALLED, f'{phase}: ended with {process.returncode}')
    (path,) = workdir.glob('stalled_*.txt')
    runs.require('in hang' in path.read_text(), f'{phase}: the stacks do not name the place')
  return f'{", ".join(HANGS)}: ended with {STALLED}, the stacks name the place'


def loader(source: str, count: int) -> str:
  """Batches of real clips: memory stays flat, and each record comes once an epoch."""
  clips = open_source(source, size=32, frames=16, fps=16.0)

  def encode(captions):
    return np.zeros((len(captions), 1, 1), np.float32), np.ones((len(captions), 1), bool)

  class Numbered:
    """The same clips, in whose captions are their numbers."""

    def __len__(self):
      return len(clips)

    def draw(self, i, rng):
      return clips.draw(i, rng) | {'caption': str(int(i))}

  seen, used = [], []

  def numbers(captions):
    seen.extend(map(int, captions))
    return encode(captions)

  stream = batches(Numbered(), numbers, batch=4, seed=0, workers=2)
  for i in tqdm(range(count), desc='loader', unit='batch'):
    next(stream)
    if i in (count // 3, 2 * count // 3):
      for worker in psutil.Process().children(recursive=True):
        if 'spawn_main' in ' '.join(worker.cmdline()):
          worker.kill()
    if i % 10 == 9:
      used.append(_memory())
  replaced = stream.counts['workers_replaced']
  stream.close()
  epochs = [seen[i : i + len(clips)] for i in range(0, len(seen) - len(clips) + 1, len(clips))]
  runs.require(
    all(sorted(e) == list(range(len(clips))) for e in epochs), 'a record is lost or repeated'
  )
  tenth = max(len(used) // 10, 1)
  growth = np.mean(used[-tenth:]) / np.mean(used[tenth : 2 * tenth]) - 1
  runs.require(growth < 0.05, f'memory grew by {growth:.1%}')
  return (
    f'{count} batches, {len(epochs)} epochs whole; memory {growth:+.1%} after the first tenth; '
    f'workers killed and replaced {replaced} times'
  )


def _memory() -> int:
  own = psutil.Process()
  return sum(p.memory_info().rss for p in (own, *own.children(recursive=True)))


def _flip(path: pathlib.Path) -> None:
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))
