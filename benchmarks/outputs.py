r"""Checks that no command leaves incomplete output, loses anything, or ends in a traceback.

  python -m benchmarks.outputs --output=docs/reliability.md

Each row of the table is a command.  It is called with outputs that can't be written and on a full
disk, killed and interrupted when it has begun to write, and called again with the same output.
This needs Linux, and root to mount a disk.
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
A cell says "one line" if the last line that is printed begins with `error:` and there is no
traceback.  The exit status is then 2, or 1 or 2 on a full disk.  After Ctrl-C it is 130; `train.py`
first saves, and prints how to resume.  Hidden files begin with a point or end with `.incomplete`,
and the next call removes them.  The column "again" is another call with the same output."""
COLUMNS = ('a folder of another user', 'below a file', 'a full disk', 'SIGKILL', 'Ctrl-C', 'again')
STOPPED = 'What resumes it:'  # printed by train.py, which saves before it ends
LIMIT = 1800  # seconds for a command
# Without these capabilities, root may not write everywhere.
NOT_ROOT = ('setpriv', '--bounding-set=-dac_override,-dac_read_search', '--inh-caps=-all')


@dataclasses.dataclass(frozen=True)
class Running:
  """A process, and the file with its output."""

  process: subprocess.Popen
  log: IO[str]


def begin(call: commands.Command, out: pathlib.Path, before: Sequence[str] = ()) -> Running:
  """Starts the command with the output `out`, in its own process group."""
  argv = [word.format(out=out) for word in call.argv]
  environment = {
    **os.environ,
    'XLA_FLAGS': '--xla_backend_optimization_level=0',
    'JAX_COMPILATION_CACHE_DIR': str(command.ROOT / '.jax_cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  }
  # To a file, since a pipe that is not read would fill up.
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
  """The exit status and the output, after waiting for the end."""
  try:
    status = running.process.wait(LIMIT)
  finally:
    if alive(running.process.pid):  # it or its children
      os.killpg(running.process.pid, signal.SIGKILL)
  running.log.seek(0)
  return status, running.log.read()


def require_error(status: int, text: str, *allowed: int) -> None:
  """Raises AssertionError unless the output ends in a one-line error and the status is allowed."""
  lines = [line for line in re.split(r'[\r\n]+', text) if line.strip()]
  last = lines[-1].strip() if lines else ''
  assert 'Traceback' not in text, f'a traceback: {last[:200]}'
  assert status in allowed, f'status {status}: {last[:200]}'
  assert last.startswith('error: '), f'no line of an error: {last[:200]}'


def refused(call: commands.Command, out: pathlib.Path, before: Sequence[str] = ()) -> str:
  """The result of a command whose output can't be written."""
  began, present = time.monotonic(), names(out.parent) if out.parent.is_dir() else None
  require_error(*ended(begin(call, out, before)), 2)
  assert present is None or names(out.parent) == present, 'something was left behind'
  return f'one line, {time.monotonic() - began:.0f} s'


def names(folder: pathlib.Path) -> set[str]:
  """The relative paths of everything below a folder."""
  return {str(path.relative_to(folder)) for path in folder.rglob('*')}


def full(call: commands.Command, disk: pathlib.Path) -> str:
  """The result of a command whose disk is full."""
  ballast = disk / 'ballast'
  with ballast.open('wb', buffering=0) as file:
    free = os.statvfs(disk)
    left = free.f_bavail * free.f_frsize - call.room * PAGE
    while left > 0:
      left -= file.write(bytes(PAGE))
  try:
    require_error(*ended(begin(call, disk / call.out)), 1, 2)
    left = names(disk) - {'ballast'}
    assert call.resumes or not left, f'left behind: {sorted(left)[:3]}'
    return 'one line' + (', nothing left' if not left else '')
  finally:
    ballast.unlink()


def interrupted(call: commands.Command, disk: pathlib.Path, number: int, kept: set[bytes]) -> str:
  """The result of a command that gets a signal once it has begun to write.

  If the command is so fast that the signal comes too late, its output must be complete: its
  contents are added to `kept`, to be compared with an undisturbed call.  The output is removed, and
  the command is called again and gets the signal after half of its time.
  """
  before, began, out = set(disk.glob(call.begun)), time.monotonic(), disk / call.out
  status, text = signalled(call, disk, number, lambda: set(disk.glob(call.begun)) - before)
  if not status or (out.exists() and not call.resumes):
    half = 0.5 * (time.monotonic() - began)
    kept.add(contents(out))
    remove(out)
    began = time.monotonic()
    status, text = signalled(call, disk, number, lambda: time.monotonic() - began > half)
  assert status, f'it ended before: {text.strip()[-200:]}'
  if number == signal.SIGINT and STOPPED not in text:
    require_error(status, text, 130)
  assert 'Traceback' not in text, f'a traceback: {text.strip()[-200:]}'
  left = {name for name in names(disk) if not hidden(name)}
  if call.resumes:
    return 'complete parts stay'
  assert not left, f'looks like a result: {sorted(left)[:3]}'
  if number == signal.SIGINT:
    assert not names(disk), f'left behind: {sorted(names(disk))[:3]}'
  return 'nothing' if not names(disk) else 'only hidden files'


def signalled(
  call: commands.Command, disk: pathlib.Path, number: int, when: Callable[[], object]
) -> tuple[int, str]:
  """The exit status and the output of a command that gets a signal when `when()` is true."""
  running = begin(call, disk / call.out)
  process = running.process
  while process.poll() is None and not when():
    time.sleep(0.001)
  if process.poll() is None:
    # A terminal sends Ctrl-C to all processes of a command.
    process.kill() if number == signal.SIGKILL else os.killpg(process.pid, number)
  return ended(running)


def contents(path: pathlib.Path) -> bytes:
  """The contents of a file, or the names of the files in a folder."""
  if path.is_file():
    return path.read_bytes()
  return '/'.join(sorted(one.name for one in path.iterdir())).encode()


def remove(path: pathlib.Path) -> None:
  """Removes a file or a folder."""
  shutil.rmtree(path) if path.is_dir() else path.unlink()


def hidden(name: str) -> bool:
  """Whether a path is hidden or temporary, so that it can't be taken for a result."""
  parts = pathlib.PurePath(name).parts
  return any(part.startswith('.') or part.endswith('.incomplete') for part in parts)


def alive(group: int) -> bool:
  """Whether a process group has processes."""
  try:
    os.killpg(group, 0)
  except ProcessLookupError:
    return False
  return True


def again(call: commands.Command, disk: pathlib.Path, kept: set[bytes]) -> str:
  """The result of an undisturbed call with the output that was interrupted before."""
  status, text = ended(begin(call, disk / call.out))
  assert status == 0, f'status {status}: {text.strip()[-300:]}'
  assert (disk / call.out).exists(), 'there is no output'
  assert not kept or kept == {contents(disk / call.out)}, 'it was incomplete before'
  left = sorted(name for name in names(disk) if hidden(name))
  assert not left, f'left behind: {left[:3]}'
  return 'complete'


def try_failures(call: commands.Command, folder: pathlib.Path) -> Iterator[str]:
  """The result of each failure, in the order of `COLUMNS`."""
  kept: set[bytes] = set()
  other, file, disk = folder / 'other', folder / 'file', folder / 'disk'
  for place in (other, disk):
    place.mkdir(exist_ok=True)
  other.chmod(0o555)
  file.touch()
  os.chown(other, 65534, 65534)
  subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256m', 'tmpfs', disk], check=True)
  resize = lambda size: subprocess.run(['mount', '-o', f'remount,size={size}', disk], check=True)
  steps = (
    lambda: refused(call, other / call.out, NOT_ROOT),
    lambda: refused(call, file / call.out),
    lambda: (resize('64k'), full(call, disk))[1],
    lambda: (resize('256m'), interrupted(call, disk, signal.SIGKILL, kept))[1],
    lambda: interrupted(call, disk, signal.SIGINT, kept),
    lambda: again(call, disk, kept),
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
    for call in commands.all_commands(folder):
      if flags.FLAGS.only in call.name:
        results = try_failures(call, pathlib.Path(scratch))
        cells = [' '.join(result.replace('|', ' ').split()) for result in results]
        rows.append(f'| `{call.name}` | {" | ".join(cells)} |')
        print(rows[-1], flush=True)
  if flags.FLAGS.only:
    return
  head = f'| command | {" | ".join(COLUMNS)} |\n|{"---|" * (len(COLUMNS) + 1)}'
  how = f'`python -m benchmarks.outputs --output={out}`'
  body = f'The rows were measured at commit {sections.commit()} with {how}:\n\n'
  sections.replace(out, TITLE, '\n'.join([body + head, *rows, '', NOTE]))
  sys.exit(1 if any('FAILS' in row for row in rows) else 0)


if __name__ == '__main__':
  flags.DEFINE_string(
    'output', 'docs/reliability.md', 'Markdown page in which to write the table, .md.'
  )
  flags.DEFINE_string(
    'models',
    '',
    'Folder of the models, which are trained if they are not there; by default a temporary one.',
  )
  flags.DEFINE_string(
    'only', '', 'If not empty, print only the rows of commands whose names contain this.'
  )
  command.run(main)
