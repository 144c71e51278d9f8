"""One run at a time in a workdir, all its processes together.

The lock is a file that says who has it.  On one machine it is known whether that process is still
there.  Elsewhere it is not, so the owner touches the file every few seconds, and is gone when it
has not done so for a while.
"""

import contextlib
import json
import os
import pathlib
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
import psutil

from core import interrupt
from core.errors import UserError, UserFileError
from core.folder import new_file, sweep
from training.agreement import from_first
from training.monitor import log

FILE = 'lock.json'
BEAT = 5.0  # seconds between two signs of life
GONE = 60.0  # seconds without one after which an owner on another machine is gone
ROUND = 1.0  # seconds between two looks at it
LOST = 2  # exit status of a run whose workdir another one has: to start it again does not help
WAIT = 'wait: '  # before what is not decided yet


@contextlib.contextmanager
def locked(
  workdir: pathlib.Path, end: Callable[[int], None] = interrupt.end_process
) -> Iterator[None]:
  """Keeps other runs out of the workdir, which is made if it is not there.

  To be called in all processes of a run; the first takes the lock for all.  ValueError, in each of
  them, where another run has it or no file can be written.  The lock of an owner that is gone is
  taken over, which is told.

  end: called with `LOST`, should another run take the lock over, as it may if this machine sleeps
    for a minute; it ends this process and its children, if it is not said.
  """
  made = [] if jax.process_index() else [p for p in (workdir, *workdir.parents) if not p.exists()]
  try:
    mine = _taken(workdir)
    done = threading.Event()
    args = (workdir, mine, done, end)
    thread = threading.Thread(target=_beat, args=args, name='lock', daemon=True)
    if jax.process_index() == 0:
      sweep(workdir)  # what a run left that was killed while it wrote
      thread.start()
    try:
      yield
    finally:
      done.set()
      if jax.process_index() == 0:
        thread.join()
        with contextlib.suppress(OSError):  # then it is stale, as after a kill
          if _read(workdir / FILE) == mine:
            (workdir / FILE).unlink()
  finally:
    for folder in made:
      with contextlib.suppress(OSError):  # it is not empty
        folder.rmdir()


def _taken(workdir: pathlib.Path) -> bytes:
  """What is in the lock, which this run has now."""
  mine, idle, told = _me(), idle_time(), False
  while True:
    said = ''
    if jax.process_index() == 0:
      try:
        said = attempt(workdir, mine, idle)
      except OSError as error:
        said = str(error)
    said = from_first(said)  # every time, as no process may wait for another for long
    if not said:
      return mine
    if not said.startswith(WAIT):
      raise UserError(said)
    if not told:
      log(said.removeprefix(WAIT))
    told = True
    time.sleep(ROUND)


def idle_time() -> Callable[[tuple[bytes, float], float], float]:
  """Returns `idle(seen, now)`: for how many seconds the owner of a lock has given no sign of life,
  less than 0 when it just has.

  seen: what is in the lock, and when it was touched.
  now: the time by the clock of the file system, which may differ from that of this machine.
  """
  first, since, age = None, 0.0, 0.0

  def idle(seen, now):
    nonlocal first, since, age
    if first is None or first[0] != seen[0]:
      first, since, age = seen, time.monotonic(), max(now - seen[1], 0.0)
    return age + time.monotonic() - since if seen == first else -1.0

  return idle


def attempt(
  workdir: pathlib.Path, mine: bytes, idle: Callable[[tuple[bytes, float], float], float]
) -> str:
  """'' where the lock is taken, and else whose it is, after `WAIT` where that one may be gone.

  OSError where it can't be written.
  """
  path = workdir / FILE
  if _created(path, mine):
    return ''
  try:
    with path.open('rb') as file:  # to open it makes NFS ask the server
      seen = file.read(), os.fstat(file.fileno()).st_mtime
  except FileNotFoundError:
    return f'{WAIT}{workdir} has just become free.'
  owner = _parsed(seen[0])
  who, gone = _name(owner), _is_gone(owner)
  if gone is None:
    silent = idle(seen, _now(path, mine))
    if 0 <= silent < GONE:
      left = f'is gone if it gives no sign of life for {GONE - silent:.0f} s'
      return f'{WAIT}{workdir} is locked by {who}, which {left}.'
    gone = silent >= GONE
  if not gone:
    return (
      f'{workdir} is in use by {who}, since {owner.get("since", "?")}: one run at a time is '
      'allowed.  Wait for it, end it, or use another --workdir; if it is surely gone, remove '
      f'{path}.'
    )
  if not _taken_over(path, mine, seen[0]):
    return f'{WAIT}{workdir} was locked by {who}, which is gone; another run may be faster.'
  log(f'{workdir} was locked by {who}, which is gone; this run has it now.')
  return ''


def _name(owner: dict) -> str:
  return f'process {owner.get("pid", "?")} on {owner.get("host", "another machine")}'


def _me() -> bytes:
  own = psutil.Process()
  return json.dumps(
    {
      **_place(),
      'pid': own.pid,
      'started': _started(own),
      'job': os.environ.get('SLURM_JOB_ID', ''),
      'restarts': os.environ.get('SLURM_RESTART_COUNT', '0'),
      'since': time.strftime('%Y-%m-%d %H:%M:%S %Z'),
      'token': secrets.token_hex(8),
    }
  ).encode()


def _place() -> dict[str, str]:
  """Where the number of a process says which it is: a machine since it was started, a container."""
  boot, pids = pathlib.Path('/proc/sys/kernel/random/boot_id'), pathlib.Path('/proc/self/ns/pid')
  return {
    'host': socket.gethostname(),
    'boot': boot.read_text().strip() if boot.exists() else '',
    'pids': os.readlink(pids) if pids.exists() else '',
  }


def _started(process: psutil.Process) -> float:
  """Seconds since the machine was started, which its clock does not change."""
  return round(process.create_time() - psutil.boot_time(), 1)


def _is_gone(owner: dict) -> bool | None:
  """Whether the owner of a lock is no longer there; None where this can't be known from here."""
  if all(owner.get(name) == value for name, value in _place().items()):
    try:
      process = psutil.Process(owner['pid'])
      zombie = process.status() == psutil.STATUS_ZOMBIE
      return zombie or abs(_started(process) - owner['started']) > 0.5
    except psutil.Error:
      return None if psutil.pid_exists(owner['pid']) else True  # it may be hidden, another user's
  job = os.environ.get('SLURM_JOB_ID', '')
  again = os.environ.get('SLURM_RESTART_COUNT', '0')
  # A job that SLURM starts again has been ended before, wherever that was.
  return True if job and owner.get('job') == job and owner.get('restarts') != again else None


def _parsed(text: bytes) -> dict:
  """What a lock says; nothing, while it is being written."""
  try:
    said = json.loads(text)
  except ValueError:
    return {}
  return said if isinstance(said, dict) else {}


def _created(path: pathlib.Path, mine: bytes) -> bool:
  """Whether the lock was free, and now says this."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
  except FileExistsError:
    if path.parent.is_dir():
      return False
    raise UserFileError(f'Cannot write {path}: {path.parent} is not a folder.') from None
  except OSError as error:
    raise UserFileError(f'Cannot write {path}: {error.strerror}.') from error
  try:
    os.write(file, mine)
  except OSError as error:
    path.unlink()
    raise UserFileError(f'Cannot write {path}: {error.strerror}.') from error
  finally:
    os.close(file)
  return True


def _taken_over(path: pathlib.Path, mine: bytes, stale: bytes) -> bool:
  """Whether that lock now says this, of several processes that want it to."""
  turn = path.with_name(f'.{path.name}.turn')
  if not _created(turn, mine):
    with contextlib.suppress(FileNotFoundError):
      if _now(path, mine) - turn.stat().st_mtime > GONE:  # of one that was killed in its turn
        turn.unlink()
    return False
  try:
    if _read(path) != stale:
      return False
    with new_file(path) as file:  # it is never free in between
      file.write_bytes(mine)
    return True
  finally:
    turn.unlink(missing_ok=True)


def _now(path: pathlib.Path, mine: bytes) -> float:
  """The time by the clock of the file system."""
  probe = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.probe')
  try:
    probe.write_bytes(mine)
    return probe.stat().st_mtime
  finally:
    probe.unlink(missing_ok=True)


def _read(path: pathlib.Path) -> bytes | None:
  try:
    return path.read_bytes()
  except FileNotFoundError:
    return None


def _beat(workdir, mine, done, end):
  path = workdir / FILE
  while not done.wait(BEAT):
    with contextlib.suppress(OSError):  # of a disk that is away for a moment
      if (found := _read(path)) is None and _created(path, mine):
        continue  # somebody removed it
      if found != mine:
        who = _name(_parsed(found or b''))
        print(f'error: {workdir} was taken over by {who}.', file=sys.stderr, flush=True)
        return end(LOST)
      os.utime(path)
