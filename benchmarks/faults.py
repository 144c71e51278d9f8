"""Experiments: runs whose disk, data or code fails.

Each function returns the result in words, or raises AssertionError.
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
  """A damaged checkpoint is reported and the previous one used; the run ends with the same bits."""
  want = runs.undisturbed(folder)
  latest = folder / 'whole/checkpoints' / str(runs.STEPS)
  files = sorted((p for p in latest.rglob('*') if p.is_file()), key=lambda p: -p.stat().st_size)
  largest, metadata = files[0].relative_to(latest), pathlib.Path('train/_METADATA')
  ways = {
    'the largest file cut': lambda f: (f / largest).write_bytes((f / largest).read_bytes()[:-9]),
    'the largest file emptied': lambda f: (f / largest).write_bytes(b''),
    'the largest file removed': lambda f: (f / largest).unlink(),
    'a byte of the largest file flipped': lambda f: _flip(f / largest),
    'metadata cut': lambda f: (f / metadata).write_bytes((f / metadata).read_bytes()[:-9]),
    'metadata emptied': lambda f: (f / metadata).write_bytes(b''),
    'metadata removed': lambda f: (f / metadata).unlink(),
    'a byte of metadata flipped': lambda f: _flip(f / metadata),
    'a part removed': lambda f: shutil.rmtree(f / 'ema'),
    'the folder renamed': lambda f: f.rename(f.with_name('old')),
  }
  for i, (way, damage_checkpoint) in enumerate(ways.items()):
    workdir = folder / f'damaged{i}'
    shutil.copytree(folder / 'whole', workdir)
    damage_checkpoint(workdir / 'checkpoints' / str(runs.STEPS))
    runs.finished(runs.start(workdir), workdir)
    text = runs.log(workdir).read_text()
    reported = (
      f'checkpoints/{runs.STEPS} is damaged' in text or 'checkpoints/old is not a complete' in text
    )
    runs.require(reported, f'{way}: not reported')
    runs.require(
      runs.starts(workdir)[-1] == runs.STEPS - runs.EVERY, f'{way}: resumed from another step'
    )
    runs.require(runs.arrays(workdir, runs.STEPS) == want, f'{way}: ends with other bits')
    shutil.rmtree(workdir)
  return (
    f'{len(ways)} of {len(ways)} ways reported, the previous one used, the same bits at the end'
  )


def full_disk(folder: pathlib.Path) -> str:
  """A full disk is reported, the run continues, and saved checkpoints stay complete.

  Needs the right to mount a file system.
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
    text = runs.log(workdir).read_text()
    runs.require('The run goes on; the next checkpoint may do.' in text, 'it was not reported')
    runs.require(checkpoint.latest_step(workdir) == 80, 'nothing was saved later')
    runs.require(
      not integrity.unfinished(workdir / 'checkpoints'), 'an incomplete checkpoint is left'
    )
  finally:
    subprocess.run(['umount', workdir], check=True)
  return (
    f'reported {text.count("could not be saved")} times; the run continued, and saved when it could'
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
  """The update of a batch that is not finite is skipped; ten in a row end the run with an error."""
  # The first two batches that are put on devices are for samples and evaluation: the tenth is of
  # step 8.
  one, ten = folder / 'nan', folder / 'nans'
  runs.finished(runs.start(one, before=NAN.format(steps='{10}')), one)
  text = runs.log(one).read_text()
  runs.require(
    'step 8: loss nan, gradient norm nan; its update is left out, 1 so far' in text, text
  )
  runs.require(np.isfinite(runs.losses(one)[runs.STEPS]), 'the last loss is not finite')
  process = runs.start(ten, before=NAN.format(steps='range(15, 99)'))
  runs.require(process.wait() != 0, 'the run continued')
  text = runs.log(ten).read_text()
  runs.require('The updates of steps 13 to 22 were left out' in text, text[-800:])
  return 'one is skipped, counted and reported; for ten in a row steps 13 to 22 are named'


# Code that makes a function hang at one of its calls; for data, at the hundredth clip.
HANG = """
import time
from {module} import {owner}
calls, original = iter(range(10**9)), {owner}.{name}
def hang(*args):
  return original(*args) if next(calls) < {calls} else time.sleep(999)
{owner}.{name} = hang
"""
HANGS = {
  'data': HANG.format(module='data.synthetic', owner='MovingShapes', name='draw', calls=100),
  'save': HANG.format(module='training', owner='checkpoint', name='save', calls=0),
  'step': HANG.format(module='training', owner='guard', name='report', calls=0),
}


def hangs(folder: pathlib.Path) -> str:
  """The watchdog ends a run that hangs, and writes the stacks of its threads."""
  for phase, code in HANGS.items():
    workdir = folder / f'hangs_in_{phase}'
    process = runs.start(workdir, {f'watchdog.{phase}': 5.0}, before=code)
    runs.require(process.wait(timeout=300) == STALLED, f'{phase}: ended with {process.returncode}')
    (path,) = workdir.glob('stalled_*.txt')
    runs.require('in hang' in path.read_text(), f'{phase}: the stacks do not show the function')
  return f'{", ".join(HANGS)}: ended with {STALLED}, the stacks show the function'


def loader(source: str, count: int) -> str:
  """Batches of real clips: memory does not grow, and each record appears once in an epoch."""
  clips = open_source(source, size=32, frames=16, fps=16.0)

  def encode(captions):
    return np.zeros((len(captions), 1, 1), np.float32), np.ones((len(captions), 1), bool)

  class Numbered:
    """The same clips, with their index as the caption."""

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
