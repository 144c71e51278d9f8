"""Runs that are killed, told to stop, moved to other machines, or left alone by another process.

Each function returns what came out, or raises AssertionError.
"""

import functools
import pathlib
import random
import shutil
import signal
import time

from tqdm import tqdm

from benchmarks import runs

# Where a run is killed: while it compiles, steps, saves, or restores.
MOMENTS = ('compile', 'step', 'save', 'restore')


def kills(folder: pathlib.Path, count: int, seed: int = 0) -> str:
  """Runs that are killed end in the bits of one that was not, and lose a save interval at most."""
  want = runs.whole(folder)
  rng, lost = random.Random(seed), []
  for i in tqdm(range(count), desc='kills', unit='run'):
    workdir = folder / f'killed{i}'
    moment = MOMENTS[i % len(MOMENTS)]
    _kill_at(moment, workdir, rng)
    before = max(runs.losses(workdir), default=0)
    runs.finished(runs.start(workdir), workdir)
    lost.append(before - runs.starts(workdir)[-1])
    runs.require(
      runs.arrays(workdir, runs.STEPS) == want, f'{workdir}, killed in {moment}, ends otherwise'
    )
    runs.require(lost[-1] <= runs.EVERY, f'{workdir} lost {lost[-1]} steps')
    shutil.rmtree(workdir)
  return f'{count} of {count} end in the same bits; {max(lost)} of {runs.EVERY} steps lost at most'


def stops(folder: pathlib.Path, count: int, seed: int = 0) -> str:
  """Runs that are told to stop lose no step and say how to go on."""
  want = runs.whole(folder)
  rng, longest = random.Random(seed), 0.0
  for i in tqdm(range(count), desc='stops', unit='run'):
    workdir = folder / f'stopped{i}'
    number = (signal.SIGTERM, signal.SIGUSR1)[i % 2]
    process, at = runs.start(workdir), rng.randrange(1, runs.STEPS - 5)
    runs.wait_until(functools.partial(_stepped, workdir, at), process)
    began = time.monotonic()
    process.send_signal(number)
    runs.finished(process, workdir)
    longest = max(longest, time.monotonic() - began)
    made = max(runs.losses(workdir))
    said = runs.log(workdir).read_text()
    runs.require(
      f'Stopped after step {made} of {runs.STEPS}.  What resumes it: ' in said, said[-500:]
    )
    runs.finished(runs.start(workdir), workdir)
    runs.require(runs.starts(workdir)[-1] == made, f'{workdir} lost a step')
    runs.require(runs.arrays(workdir, runs.STEPS) == want, f'{workdir} ends otherwise')
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
      for process in runs.many_processes(2, workdir, more | mesh):
        runs.finished(process, workdir)
    else:
      runs.finished(runs.start(workdir, more | mesh, devices=n), workdir)
    got = runs.losses(workdir)
    runs.require(sorted(got) == list(range(11, 31)), f'{workdir} has the steps {sorted(got)}')
    worst = max(worst, *(abs(got[i] / want[i] - 1) for i in got))
    runs.require(worst <= 1e-5, f'{workdir}: losses differ by {worst:.1e}')
  return f'bits by digest after each restore; the next 20 losses to {worst:.1e}'


def many(folder: pathlib.Path, steps: int) -> str:
  """Two processes are one; where one of them dies, the other does not wait for it."""
  changes = {'steps': steps}
  one, two, dead = (folder / name for name in ('one', 'two', 'dead'))
  runs.finished(runs.start(one, changes), one)
  for process in runs.many_processes(2, two, changes):
    runs.finished(process, two)
  want, got = runs.losses(one), runs.losses(two)
  worst = max(abs(got[i] / want[i] - 1) for i in range(1, steps + 1))
  runs.require(worst <= 1e-5, f'losses differ by {worst:.1e}')

  first, second = runs.many_processes(2, dead, {'steps': 100_000, 'watchdog.step': 20.0})
  runs.wait_until(lambda: max(runs.losses(dead), default=0) > 5, first)
  began = time.monotonic()
  runs.kill(second)
  status = first.wait(timeout=120)
  took = time.monotonic() - began
  runs.require(status != 0, 'the other process ended as if all were well')
  reason = [
    line for line in runs.log(dead, '--process_id=0').read_text().splitlines() if 'rror' in line
  ]
  runs.require(bool(reason), 'the other process gave no reason')
  return f'losses of {steps} steps to {worst:.1e}; the other ended with {status} in {took:.0f} s'


def _kill_at(moment: str, workdir: pathlib.Path, rng: random.Random) -> None:
  process = runs.start(workdir)
  if moment == 'restore':
    at = rng.randrange(runs.EVERY, runs.STEPS // 2)
    runs.wait_until(lambda: _saved(workdir) and _stepped(workdir, at), process)
    runs.kill(process)
    again = len(runs.log(workdir).read_text())
    process = runs.start(workdir)
    runs.wait_until(lambda: 'to train' in runs.log(workdir).read_text()[again:], process)
    time.sleep(rng.uniform(0, 1))
  elif moment == 'compile':
    runs.wait_until(lambda: 'to train' in runs.log(workdir).read_text(), process)
    time.sleep(rng.uniform(0, 1))
  elif moment == 'step':
    at = rng.randrange(1, runs.STEPS)
    runs.wait_until(lambda: _stepped(workdir, at), process)
  else:
    at = rng.randrange(1, runs.STEPS // runs.EVERY) * runs.EVERY
    unfinished = lambda: any(workdir.glob(f'checkpoints/{at}.orbax-checkpoint-tmp*/*'))
    runs.wait_until(unfinished, process)
    time.sleep(rng.uniform(0, 0.1))
  runs.kill(process)


def _saved(workdir):
  return any(path.name.isdigit() for path in workdir.glob('checkpoints/*'))


def _stepped(workdir, step):
  return max(runs.losses(workdir), default=0) >= step
