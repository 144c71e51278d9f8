r"""Proves that no command leaves half of what it makes, loses anything, or ends in a traceback.

  python -m benchmarks.outputs --output=docs/reliability.md

Each row is a command, called with outputs that can't be written and on a disk that is full, killed
when it has begun to write, interrupted there, and called once more where it was.  It takes root, to
mount a disk, and Linux.
"""

import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from absl import flags

from benchmarks import commands, sections
from core import command

PAGE = 4096  # bytes of a block of the disk
TITLE = 'Outputs that cannot be written, and commands that are ended'
NOTE = """\
One line begins with `error:`, is the last that is printed, and none is of a traceback; the status
is 2, on a full disk 1 or 2, and 130 after Ctrl-C, at which `train.py` saves and says what resumes
it.  Hidden names begin with a point or end with `.incomplete`; the next start removes them.  Again
is the command once more, in the same place."""
COLUMNS = ('a folder of another user', 'below a file', 'a full disk', 'SIGKILL', 'Ctrl-C', 'again')
STOPPED = 'What resumes it:'  # as train.py ends, which saves first
LIMIT = 1800  # seconds of a command
# Root may write everywhere unless it drops this.
NOT_ROOT = ('setpriv', '--bounding-set=-dac_override,-dac_read_search', '--inh-caps=-all')


@dataclasses.dataclass(frozen=True)
class Running:
  """A process, and the file that it prints to."""

  process: subprocess.Popen
  log: IO[str]


def begin(of: commands.Command, out: pathlib.Path, before: Sequence[str] = ()) -> Running:
  """The command, with this place for its output, in a group of processes of its own."""
  argv = [word.format(out=out) for word in of.argv]
  environment = {
    **os.environ,
    'XLA_FLAGS': '--xla_backend_optimization_level=0',
    'JAX_COMPILATION_CACHE_DIR': str(command.ROOT / '.jax_cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  }
  # To files, as a pipe that nobody reads may fill.
  log = tempfile.TemporaryFile('w+')
  process = subprocess.Popen(
    [*before, sys.executable, *argv],
    cwd=command.ROOT,
    env=environment,
    stdout=log,
    stderr=subprocess.STDOUT,
    start_new_session=True,
  )
  return Running(process, log)


def ended(running: Running) -> tuple[int, str]:
  """The exit status and what was printed, when it is at its end."""
  try:
    status = running.process.wait(LIMIT)
  finally:
    if alive(running.process.pid):  # it, or what it has left
      os.killpg(running.process.pid, signal.SIGKILL)
  running.log.seek(0)
  return status, running.log.read()


def said(status: int, text: str, *allowed: int) -> str:
  """The last line, of an error in one line with a status that is allowed; or AssertionError."""
  lines = [line for line in re.split(r'[\r\n]+', text) if line.strip()]
  last = lines[-1].strip() if lines else ''
  assert 'Traceback' not in text, f'a traceback: {last[:200]}'
  assert status in allowed, f'status {status}: {last[:200]}'
  assert last.startswith('error: '), f'no line of an error: {last[:200]}'
  return last


def refused(of: commands.Command, out: pathlib.Path, before: Sequence[str] = ()) -> str:
  """What came of a command whose output can't be written."""
  began, there = time.monotonic(), names(out.parent) if out.parent.is_dir() else None
  said(*ended(begin(of, out, before)), 2)
  assert there is None or names(out.parent) == there, 'something was left behind'
  return f'one line, {time.monotonic() - began:.0f} s'


def names(folder: pathlib.Path) -> set[str]:
  """All that is below a folder."""
  return {str(path.relative_to(folder)) for path in folder.rglob('*')}


def full(of: commands.Command, disk: pathlib.Path) -> str:
  """What came of a command whose disk is full."""
  ballast = disk / 'ballast'
  with ballast.open('wb', buffering=0) as file:
    free = os.statvfs(disk)
    left = free.f_bavail * free.f_frsize - of.room * PAGE
    while left > 0:
      left -= file.write(bytes(PAGE))
  try:
    said(*ended(begin(of, disk / of.out)), 1, 2)
    left = names(disk) - {'ballast'}
    assert of.goes_on or not left, f'left behind: {sorted(left)[:3]}'
    return 'one line' + (', nothing left' if not left else '')
  finally:
    ballast.unlink()


def interrupted(of: commands.Command, disk: pathlib.Path, number: int, kept: set[bytes]) -> str:
  """What came of a command that a signal has ended once it had begun to write.

  What writes so fast that the signal came too late is whole: what it has joins `kept`, to be
  compared with what the command makes when nothing stops it.  It is removed, and the command gets
  the signal once more, after half of its time.
  """
  before, began, out = set(disk.glob(of.begun)), time.monotonic(), disk / of.out
  status, text = signalled(of, disk, number, lambda: set(disk.glob(of.begun)) - before)
  if not status or (out.exists() and not of.goes_on):
    half = 0.5 * (time.monotonic() - began)
    kept.add(contents(out))
    remove(out)
    began = time.monotonic()
    status, text = signalled(of, disk, number, lambda: time.monotonic() - began > half)
  assert status, f'it ended before: {text.strip()[-200:]}'
  if number == signal.SIGINT and STOPPED not in text:
    said(status, text, 130)
  assert 'Traceback' not in text, f'a traceback: {text.strip()[-200:]}'
  left = {name for name in names(disk) if not hidden(name)}
  if of.goes_on:
    return 'what is whole stays'
  assert not left, f'passes for a result: {sorted(left)[:3]}'
  if number == signal.SIGINT:
    assert not names(disk), f'left behind: {sorted(names(disk))[:3]}'
  return 'nothing' if not names(disk) else 'nothing but hidden'


def signalled(
  of: commands.Command, disk: pathlib.Path, number: int, when: Callable[[], object]
) -> tuple[int, str]:
  """The exit status and what was printed of a command that got a signal."""
  running = begin(of, disk / of.out)
  process = running.process
  while process.poll() is None and not when():
    time.sleep(0.001)
  if process.poll() is None:
    # Ctrl-C is for all processes of a command, as a terminal sends it.
    process.kill() if number == signal.SIGKILL else os.killpg(process.pid, number)
  return ended(running)


def contents(path: pathlib.Path) -> bytes:
  """What is in a file, or the names in a folder, which gets its own when all is in it."""
  if path.is_file():
    return path.read_bytes()
  return '/'.join(sorted(one.name for one in path.iterdir())).encode()


def remove(path: pathlib.Path) -> None:
  """Removes a file or a folder."""
  shutil.rmtree(path) if path.is_dir() else path.unlink()


def hidden(name: str) -> bool:
  """Whether a name says that it is nobody's result."""
  parts = pathlib.PurePath(name).parts
  return any(part.startswith('.') or part.endswith('.incomplete') for part in parts)


def alive(group: int) -> bool:
  """Whether a group has processes."""
  try:
    os.killpg(group, 0)
  except ProcessLookupError:
    return False
  return True


def again(of: commands.Command, disk: pathlib.Path, kept: set[bytes]) -> str:
  """What came of the command when nothing stops it, where it was stopped before."""
  status, text = ended(begin(of, disk / of.out))
  assert status == 0, f'status {status}: {text.strip()[-300:]}'
  assert (disk / of.out).exists(), 'there is no output'
  assert not kept or kept == {contents(disk / of.out)}, 'it was not whole before'
  left = sorted(name for name in names(disk) if hidden(name))
  assert not left, f'left behind: {left[:3]}'
  return 'whole'


def tried(of: commands.Command, folder: pathlib.Path) -> Iterator[str]:
  """What came of each failure, in the order of `COLUMNS`."""
  kept: set[bytes] = set()
  other, file, disk = folder / 'other', folder / 'file', folder / 'disk'
  for place in (other, disk):
    place.mkdir(exist_ok=True)
  other.chmod(0o555)
  file.touch()
  os.chown(other, 65534, 65534)
  subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256m', 'tmpfs', disk], check=True)
  size = lambda of: subprocess.run(['mount', '-o', f'remount,size={of}', disk], check=True)
  steps = (
    lambda: refused(of, other / of.out, NOT_ROOT),
    lambda: refused(of, file / of.out),
    lambda: (size('64k'), full(of, disk))[1],
    lambda: (size('256m'), interrupted(of, disk, signal.SIGKILL, kept))[1],
    lambda: interrupted(of, disk, signal.SIGINT, kept),
    lambda: again(of, disk, kept),
  )
  try:
    for step in steps:
      try:
        yield step()
      except (AssertionError, subprocess.TimeoutExpired) as error:
        yield f'FAILS: {error}'
  finally:
    subprocess.run(['umount', disk], check=True)


def main() -> None:
  out = pathlib.Path(flags.FLAGS.output)
  sections.require(out)
  rows = []
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(flags.FLAGS.models or scratch)
    folder.mkdir(exist_ok=True)
    commands.prepare(folder)
    for of in commands.listed(folder):
      if flags.FLAGS.only in of.name:
        found = [
          ' '.join(one.replace('|', ' ').split()) for one in tried(of, pathlib.Path(scratch))
        ]
        rows.append(f'| `{of.name}` | {" | ".join(found)} |')
        print(rows[-1], flush=True)
  if flags.FLAGS.only:
    return
  head = f'| command | {" | ".join(COLUMNS)} |\n|{"---|" * (len(COLUMNS) + 1)}'
  body = f'At commit {sections.commit()}, by `python -m benchmarks.outputs --output={out}`:\n\n'
  sections.replace(out, TITLE, '\n'.join([body + head, *rows, '', NOTE]))
  sys.exit(1 if any('FAILS' in row for row in rows) else 0)


if __name__ == '__main__':
  flags.DEFINE_string('output', 'docs/reliability.md', 'A page whose section has the table, .md.')
  flags.DEFINE_string(
    'models', '', 'A folder for the models, which are made if they are not there.'
  )
  flags.DEFINE_string(
    'only', '', 'Prints the rows of the commands whose name has this, and no more.'
  )
  command.run(main)
