r"""Proves that a run can be left alone: kills, damage, full disks, hangs, other machines.

  python -m benchmarks.reliability --output=docs/reliability.md

Each row is an experiment with `train.py` on a tiny model, in processes of its own.  The tests have
short forms of them.  The loader is measured where `--source` is a dataset of real clips.
"""

import contextlib
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
from absl import flags
from tqdm import tqdm

from benchmarks import runs
from benchmarks.runs import CHANGES
from core import command
from data.pipeline import batches, open_source
from training import checkpoint, integrity
from training.phases import STALLED

STEPS, EVERY = CHANGES['steps'], CHANGES['save_every']

# Where a run is killed: while it compiles, steps, saves, or restores.
MOMENTS = ('compile', 'step', 'save', 'restore')


def kills(folder: pathlib.Path, count: int, seed: int = 0) -> str:
  """Runs that are killed end in the bits of one that was not, and lose a save interval at most."""
  want = _whole(folder)
  rng, lost = random.Random(seed), []
  for i in tqdm(range(count), desc='kills', unit='run'):
    workdir = folder / f'killed{i}'
    moment = MOMENTS[i % len(MOMENTS)]
    _kill_at(moment, workdir, rng)
    before = max(runs.losses(workdir), default=0)
    runs.finished(runs.start(workdir), workdir)
    lost.append(before - runs.starts(workdir)[-1])
    _require(runs.arrays(workdir, STEPS) == want, f'{workdir}, killed in {moment}, ends otherwise')
    _require(lost[-1] <= EVERY, f'{workdir} lost {lost[-1]} steps')
    shutil.rmtree(workdir)
  return f'{count} of {count} end in the same bits; at most {max(lost)} steps lost, saved every {EVERY}'


def stops(folder: pathlib.Path, count: int, seed: int = 0) -> str:
  """Runs that are told to stop lose no step and say how to go on."""
  want = _whole(folder)
  rng, longest = random.Random(seed), 0.0
  for i in tqdm(range(count), desc='stops', unit='run'):
    workdir = folder / f'stopped{i}'
    number = (signal.SIGTERM, signal.SIGUSR1)[i % 2]
    process, at = runs.start(workdir), rng.randrange(1, STEPS - 5)
    runs.wait_until(lambda: max(runs.losses(workdir), default=0) >= at, process)
    began = time.monotonic()
    process.send_signal(number)
    runs.finished(process, workdir)
    longest = max(longest, time.monotonic() - began)
    made = max(runs.losses(workdir))
    said = runs.log(workdir).read_text()
    _require(f'Stopped after step {made} of {STEPS}.  What resumes it: ' in said, said[-500:])
    runs.finished(runs.start(workdir), workdir)
    _require(runs.starts(workdir)[-1] == made, f'{workdir} lost a step')
    _require(runs.arrays(workdir, STEPS) == want, f'{workdir} ends otherwise')
    shutil.rmtree(workdir)
  return f'{count} of {count} end in the same bits, no step lost; saved and gone in {longest:.1f} s'


def elsewhere(folder: pathlib.Path, devices=(1, 2, 4, 8), processes: bool = True) -> str:
  """A run goes on, on other devices and in two processes, as it would have where it was."""
  few, more = {'steps': 10}, {'steps': 30}
  mesh = {'mesh': "(('data',1),('fsdp',-1))"}
  first = folder / 'first'
  runs.finished(runs.start(first, few | mesh, devices=4), first)
  whole = folder / 'whole30'
  shutil.copytree(first, whole)
  runs.finished(runs.start(whole, more | mesh, devices=4), whole)
  want, worst = runs.losses(whole), 0.0
  for n in [*devices, *(['two processes'] if processes else [])]:
    workdir = folder / f'on_{n}'
    shutil.copytree(first, workdir)
    (workdir / 'metrics.jsonl').unlink()
    if n == 'two processes':
      for process in runs.two_processes(workdir, more | mesh):
        runs.finished(process, workdir)
    else:
      runs.finished(runs.start(workdir, more | mesh, devices=n), workdir)
    got = runs.losses(workdir)
    _require(sorted(got) == list(range(11, 31)), f'{workdir} has the steps {sorted(got)}')
    worst = max(worst, *(abs(got[i] / want[i] - 1) for i in got))
    _require(worst <= 1e-5, f'{workdir}: losses differ by {worst:.1e}')
  return f'bits by digest after each restore; the next 20 losses to {worst:.1e}'


def many(folder: pathlib.Path, steps: int) -> str:
  """Two processes are one; where one of them dies, the other does not wait for it."""
  changes = {'steps': steps}
  one, two, dead = (folder / name for name in ('one', 'two', 'dead'))
  runs.finished(runs.start(one, changes), one)
  for process in runs.two_processes(two, changes):
    runs.finished(process, two)
  want, got = runs.losses(one), runs.losses(two)
  worst = max(abs(got[i] / want[i] - 1) for i in range(1, steps + 1))
  _require(worst <= 1e-5, f'losses differ by {worst:.1e}')

  first, second = runs.two_processes(dead, {'steps': 100_000, 'watchdog.step': 20.0})
  runs.wait_until(lambda: max(runs.losses(dead), default=0) > 5, first)
  began = time.monotonic()
  runs.kill(second)
  status = first.wait(timeout=120)
  took = time.monotonic() - began
  _require(status != 0, 'the other process ended as if all were well')
  reason = [line for line in runs.log(dead, '--process_id=0').read_text().splitlines() if 'rror' in line]
  _require(bool(reason), 'the other process gave no reason')
  return f'losses of {steps} steps to {worst:.1e}; the other ended with {status} in {took:.0f} s'


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
    _require('The run goes on; the next checkpoint may do.' in said, 'it was not told of')
    _require(checkpoint.latest_step(workdir) == 80, 'nothing was saved later')
    _require(not integrity.unfinished(workdir / 'checkpoints'), 'something half-written stays')
  finally:
    subprocess.run(['umount', workdir], check=True)
  return f'told of {said.count("could not be saved")} times; the run went on, and saved when it could'


def damage(folder: pathlib.Path) -> str:
  """A damaged checkpoint is named and the one before it used; the run ends in the same bits."""
  want = _whole(folder)
  latest = folder / 'whole/checkpoints' / str(STEPS)
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
    do(workdir / 'checkpoints' / str(STEPS))
    runs.finished(runs.start(workdir), workdir)
    said = runs.log(workdir).read_text()
    named = f'checkpoints/{STEPS} is damaged' in said or 'checkpoints/old is not a whole' in said
    _require(named, f'{way}: not named')
    _require(runs.starts(workdir)[-1] == STEPS - EVERY, f'{way}: went on from elsewhere')
    _require(runs.arrays(workdir, STEPS) == want, f'{way}: ends otherwise')
    shutil.rmtree(workdir)
  return f'{len(ways)} of {len(ways)} ways found and named, the one before used, the same bits at the end'


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
  # The first batch that is put on the devices is that of evaluation: step 8 has the ninth.
  one, ten = folder / 'nan', folder / 'nans'
  runs.finished(runs.start(one, before=NAN.format(steps='{9}')), one)
  said = runs.log(one).read_text()
  _require('step 8: loss nan, gradient norm nan; its update is left out, 1 so far' in said, said)
  _require(np.isfinite(runs.losses(one)[STEPS]), 'the last loss is not finite')
  process = runs.start(ten, before=NAN.format(steps='range(14, 99)'))
  _require(process.wait() != 0, 'the run went on')
  said = runs.log(ten).read_text()
  _require('The updates of steps 13 to 22 were left out' in said, said[-800:])
  return 'one is left out, counted and named; of ten in a row steps 13 to 22 are named'


HANGS = {
  'data': 'import time; from data import synthetic\nsynthetic.MovingShapes.draw = lambda *a: time.sleep(999)',
  'save': 'import time; from training import checkpoint\ncheckpoint.save = lambda *a: time.sleep(999)',
  'step': 'import time; from training import guard\nguard.report = lambda *a: time.sleep(999)',
}


def hangs(folder: pathlib.Path) -> str:
  """What hangs is ended by the watchdog, and the stacks say where it was."""
  for phase, code in HANGS.items():
    workdir = folder / f'hangs_in_{phase}'
    limit = {f'watchdog.{phase if phase != "data" else "start"}': 20.0 if phase == 'data' else 4.0}
    process = runs.start(workdir, limit, before=code)
    _require(process.wait(timeout=300) == STALLED, f'{phase}: ended with {process.returncode}')
    (path,) = workdir.glob('stalled_*.txt')
    _require('<lambda>' in path.read_text(), f'{phase}: the stacks do not name the place')
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
  _require(all(sorted(e) == list(range(len(clips))) for e in epochs), 'a record is lost or repeated')
  tenth = max(len(used) // 10, 1)
  growth = np.mean(used[-tenth:]) / np.mean(used[tenth : 2 * tenth]) - 1
  _require(growth < 0.05, f'memory grew by {growth:.1%}')
  return (
    f'{count} batches, {len(epochs)} epochs whole; memory {growth:+.1%} after the first tenth; '
    f'workers killed and replaced {replaced} times'
  )


def _memory() -> int:
  own = psutil.Process()
  return sum(p.memory_info().rss for p in (own, *own.children(recursive=True)))


def _kill_at(moment: str, workdir: pathlib.Path, rng: random.Random) -> None:
  process = runs.start(workdir)
  if moment == 'restore':
    at = rng.randrange(EVERY, STEPS // 2)
    runs.wait_until(lambda: _saved(workdir) and max(runs.losses(workdir), default=0) >= at, process)
    runs.kill(process)
    again = len(runs.log(workdir).read_text())
    process = runs.start(workdir)
    runs.wait_until(lambda: 'to train' in runs.log(workdir).read_text()[again:], process)
    time.sleep(rng.uniform(0, 1))
  elif moment == 'compile':
    runs.wait_until(lambda: 'to train' in runs.log(workdir).read_text(), process)
    time.sleep(rng.uniform(0, 1))
  elif moment == 'step':
    at = rng.randrange(1, STEPS)
    runs.wait_until(lambda: max(runs.losses(workdir), default=0) >= at, process)
  else:
    at = rng.randrange(1, STEPS // EVERY) * EVERY
    unfinished = lambda: any(workdir.glob(f'checkpoints/{at}.orbax-checkpoint-tmp*/*'))
    runs.wait_until(unfinished, process)
    time.sleep(rng.uniform(0, 0.1))
  runs.kill(process)


def _saved(workdir):
  return any(path.name.isdigit() for path in workdir.glob('checkpoints/*'))


def _whole(folder: pathlib.Path) -> dict[str, bytes]:
  """What a run leaves that nothing befalls."""
  workdir = folder / 'whole'
  if not workdir.exists():
    runs.finished(runs.start(workdir), workdir)
  return runs.arrays(workdir, STEPS)


def _flip(path: pathlib.Path) -> None:
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))


def _require(holds: bool, otherwise: str) -> None:
  if not holds:
    raise AssertionError(otherwise)


def experiments(folder: pathlib.Path, source: str) -> Iterator[tuple[str, Callable[[], str]]]:
  """Each with its name."""
  yield '30 runs killed at random times', lambda: kills(folder, 30)
  yield '8 runs told to stop', lambda: stops(folder, 8)
  yield 'on 1, 2, 4, 8 devices and two processes', lambda: elsewhere(folder)
  yield 'two processes', lambda: many(folder, 50)
  yield 'damaged checkpoints', lambda: damage(folder)
  yield 'a full disk', lambda: full_disk(folder)
  yield 'batches that are not finite', lambda: not_numbers(folder)
  if source:
    yield '3,000 batches of real clips', lambda: loader(source, 3000)
  yield 'hangs', lambda: hangs(folder)


def main() -> None:
  out = pathlib.Path(flags.FLAGS.output)
  if out.suffix != '.md' or not out.parent.is_dir():
    raise ValueError(f'Got --output={out}; allowed is a name that ends in .md, in a folder.')
  line = ['git', 'rev-parse', '--short', 'HEAD']
  commit = subprocess.run(line, cwd=command.ROOT, capture_output=True, text=True).stdout.strip()
  rows, failed = [], False
  with tempfile.TemporaryDirectory() as folder:
    for name, experiment in experiments(pathlib.Path(folder), flags.FLAGS.source):
      began = time.monotonic()
      try:
        found = experiment()
      except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
        failed, found = True, f'FAILS: {error}'
      rows.append(f'| {name} | {found} | {time.monotonic() - began:.0f} s |')
      print(rows[-1], flush=True)
  source = f' --source={flags.FLAGS.source}' if flags.FLAGS.source else ''
  out.write_text(
    '# Reliability\n\n'
    f'At commit {commit}, by `python -m benchmarks.reliability --output={out}{source}`:\n\n'
    '| experiment | what came out | took |\n|---|---|---|\n' + '\n'.join(rows) + '\n'
  )
  sys.exit(1 if failed else 0)


if __name__ == '__main__':
  flags.DEFINE_string('output', 'docs/reliability.md', 'The table, .md.')
  flags.DEFINE_string('source', '', 'A folder that data.builder wrote: of which the loader reads.')
  command.run(main)
