"""Experiments: runs that are killed, stopped by a signal, moved to other devices, lose a process.

Each function returns the result in words, or raises AssertionError.
"""

import functools
import pathlib
import random
import shutil
import signal
import time

from tqdm import tqdm

from benchmarks import runs

# When a run is killed: while it compiles, steps, saves, or restores.
MOMENTS = ('compile', 'step', 'save', 'restore')


def kills(folder: pathlib.Path, count: int, seed: int = 0) -> str:
  """Killed runs end with the bits of an undisturbed run, and lose at most one save interval."""
  want = runs.undisturbed(folder)
  rng, lost = random.Random(seed), []
  for i in tqdm(range(count), desc='kills', unit='run'):
    workdir = folder / f'killed{i}'
    moment = MOMENTS[i % len(MOMENTS)]
    _kill_at(moment, workdir, rng)
    before = max(runs.losses(workdir), default=0)
    runs.finished(runs.start(workdir), workdir)
    lost.append(before - runs.starts(workdir)[-1])
    runs.require(
      runs.arrays(workdir, runs.STEPS) == want,
      f'{workdir}, killed in {moment}, ends with other bits',
    )
    runs.require(lost[-1] <= runs.EVERY, f'{workdir} lost {lost[-1]} steps')
    shutil.rmtree(workdir)
  return (
    f'{count} of {count} end with the same bits; at most {max(lost)} of {runs.EVERY} steps lost'
  )


def stops(folder: pathlib.Path, count: int, seed: int = 0) -> str:
  """Runs that are stopped by a signal lose no step, and print how to resume them."""
  want = runs.undisturbed(folder)
  rng, longest = random.Random(seed), 0.0
  for i in tqdm(range(count), desc='stops', unit='run'):
    workdir = folder / f'stopped{i}'
    number = (signal.SIGTERM, signal.SIGUSR1)[i % 2]
    process, step = runs.start(workdir), rng.randrange(1, runs.STEPS - 5)
    runs.wait_until(functools.partial(_stepped, workdir, step), process)
    began = time.monotonic()
    process.send_signal(number)
    runs.finished(process, workdir)
    longest = max(longest, time.monotonic() - began)
    last = max(runs.losses(workdir))
    text = runs.log(workdir).read_text()
    runs.require(
      f'Stopped after step {last} of {runs.STEPS}.  What resumes it: ' in text, text[-500:]
    )
    runs.finished(runs.start(workdir), workdir)
    runs.require(runs.starts(workdir)[-1] == last, f'{workdir} lost a step')
    runs.require(runs.arrays(workdir, runs.STEPS) == want, f'{workdir} ends with other bits')
    shutil.rmtree(workdir)
  return (
    f'{count} of {count} end with the same bits, no step lost; saved and ended in {longest:.1f} s'
  )


def elsewhere(folder: pathlib.Path, devices=(1, 2, 4, 8), processes: bool = True) -> str:
  """A run continues on other devices and in two processes with the losses it would have had."""
  few, more = {'steps': 10}, {'steps': 30}
  mesh = {'mesh': "(('data',1),('fsdp',-1))"}
  first = folder / 'first'
  runs.finished(runs.start(first, few | mesh, devices=4), first)
  whole = folder / 'whole30'
  shutil.copytree(first, whole)
  runs.finished(runs.start(whole, more | mesh, devices=4), whole)
  want, error = runs.losses(whole), 0.0
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
    error = max(error, *(abs(got[i] / want[i] - 1) for i in got))
    runs.require(error <= 1e-5, f'{workdir}: losses differ by {error:.1e}')
  return f'the same bits after each restore; the next 20 losses to {error:.1e}'


def many(folder: pathlib.Path, steps: int) -> str:
  """Two processes have the losses of one; if one of them dies, the other ends with an error."""
  changes = {'steps': steps}
  one, two, dead = (folder / name for name in ('one', 'two', 'dead'))
  runs.finished(runs.start(one, changes), one)
  for process in runs.many_processes(2, two, changes):
    runs.finished(process, two)
  want, got = runs.losses(one), runs.losses(two)
  error = max(abs(got[i] / want[i] - 1) for i in range(1, steps + 1))
  runs.require(error <= 1e-5, f'losses differ by {error:.1e}')

  first, second = runs.many_processes(2, dead, {'steps': 100_000, 'watchdog.step': 20.0})
  runs.wait_until(lambda: max(runs.losses(dead), default=0) > 5, first)
  began = time.monotonic()
  runs.kill(second)
  status = first.wait(timeout=120)
  seconds = time.monotonic() - began
  runs.require(status != 0, 'the other process ended without an error')
  reason = [
    line for line in runs.log(dead, '--process_id=0').read_text().splitlines() if 'rror' in line
  ]
  runs.require(bool(reason), 'the other process printed no reason')
  return f'losses of {steps} steps to {error:.1e}; the other ended with {status} in {seconds:.0f} s'


def _kill_at(moment: str, workdir: pathlib.Path, rng: random.Random) -> None:
  process = runs.start(workdir)
  if moment == 'restore':
    step = rng.randrange(runs.EVERY, runs.STEPS // 2)
    runs.wait_until(lambda: _saved(workdir) and _stepped(workdir, step), process)
    runs.kill(process)
    printed = len(runs.log(workdir).read_text())
    process = runs.start(workdir)
    runs.wait_until(lambda: 'to train' in runs.log(workdir).read_text()[printed:], process)
    time.sleep(rng.uniform(0, 1))
  elif moment == 'compile':
    runs.wait_until(lambda: 'to train' in runs.log(workdir).read_text(), process)
    time.sleep(rng.uniform(0, 1))
  elif moment == 'step':
    step = rng.randrange(1, runs.STEPS)
    runs.wait_until(lambda: _stepped(workdir, step), process)
  else:
    step = rng.randrange(1, runs.STEPS // runs.EVERY) * runs.EVERY
    unfinished = lambda: any(workdir.glob(f'checkpoints/{step}.orbax-checkpoint-tmp*/*'))
    runs.wait_until(unfinished, process)
    time.sleep(rng.uniform(0, 0.1))
  runs.kill(process)


def _saved(workdir):
  return any(path.name.isdigit() for path in workdir.glob('checkpoints/*'))


def _stepped(workdir, step):
  return max(runs.losses(workdir), default=0) >= step
