"""A lock that lets one run at a time use a workdir.

The lock is a file that names its owner, the first process of a run.  On the same machine, other
processes can find out whether the owner still runs.  From another machine they cannot, so the owner
touches the file every few seconds, and counts as gone if it has not done so for a while.
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
HEARTBEAT = 5.0  # seconds between two touches of the file by its owner
TIMEOUT = 60.0  # seconds without one after which an owner on another machine is gone
RETRY = 1.0  # seconds between two attempts to get the lock
LOST = 2  # exit status of a run that lost its lock to another: starting it again does not help
WAIT = 'wait: '  # the beginning of a message after which another attempt may succeed


@contextlib.contextmanager
def locked(
  workdir: pathlib.Path, end: Callable[[int], None] = interrupt.end_process
) -> Iterator[None]:
  """Keeps other runs out of the workdir, which is created if necessary.

  To be called in all processes of a run; the first one takes the lock for all.  UserError, in all
  of them, if another run has the lock or if it cannot be written.  The lock of an owner that is
  gone is taken over, and that is logged.

  end: called with `LOST` if another run takes the lock over, as it may if this machine sleeps for a
    minute; by default it ends this process and its children.
  """
  created = (
    [] if jax.process_index() else [p for p in (workdir, *workdir.parents) if not p.exists()]
  )
  try:
    own = _acquire(workdir)
    done = threading.Event()
    args = (workdir, own, done, end)
    thread = threading.Thread(target=_keep, args=args, name='lock', daemon=True)
    if jax.process_index() == 0:
      sweep(workdir)  # unfinished files of a run that was killed
      thread.start()
    try:
      yield
    finally:
      done.set()
      if jax.process_index() == 0:
        thread.join()
        with contextlib.suppress(OSError):  # then the lock stays there, as after a kill
          if _read(workdir / FILE) == own:
            (workdir / FILE).unlink()
  finally:
    for folder in created:
      with contextlib.suppress(OSError):  # a folder that is not empty stays
        folder.rmdir()


def _acquire(workdir: pathlib.Path) -> bytes:
  """Waits for the lock if its owner may be gone; returns the contents of the file of this run."""
  own, idle, logged = _describe_self(), idle_time(), False
  while True:
    problem = ''
    if jax.process_index() == 0:
      try:
        problem = attempt(workdir, own, idle)
      except OSError as error:
        problem = str(error)
    problem = from_first(problem)  # in every attempt, since collectives time out
    if not problem:
      return own
    if not problem.startswith(WAIT):
      raise UserError(problem)
    if not logged:
      log(problem.removeprefix(WAIT))
    logged = True
    time.sleep(RETRY)


def idle_time() -> Callable[[tuple[bytes, float], float], float]:
  """Returns `idle(seen, now)`: the seconds since the owner last touched its lock.

  It is negative if the owner has touched the lock since the previous call.

  seen: the contents of the lock, and when it was touched.
  now: the time by the clock of the file system, which may differ from the clock of this machine.
  """
  first, since, age = None, 0.0, 0.0

  def idle(seen, now):
    nonlocal first, since, age
    if first is None or first[0] != seen[0]:
      first, since, age = seen, time.monotonic(), max(now - seen[1], 0.0)
    return age + time.monotonic() - since if seen == first else -1.0

  return idle


def attempt(
  workdir: pathlib.Path, own: bytes, idle: Callable[[tuple[bytes, float], float], float]
) -> str:
  """Tries once to take the lock; returns '' or why it failed, after `WAIT` if a retry may help.

  own: the contents of the file; idle: see `idle_time`.  OSError if the file cannot be written.
  """
  path = workdir / FILE
  if _create(path, own):
    return ''
  try:
    with path.open('rb') as file:  # opening it makes NFS ask the server
      seen = file.read(), os.fstat(file.fileno()).st_mtime
  except FileNotFoundError:
    return f'{WAIT}{workdir} has just become free.'
  owner = _parsed(seen[0])
  who, gone = _name(owner), _is_gone(owner)
  if gone is None:
    silent = idle(seen, _now(path, own))
    if 0 <= silent < TIMEOUT:
      left = f'is gone if it gives no sign of life for {TIMEOUT - silent:.0f} s'
      return f'{WAIT}{workdir} is locked by {who}, which {left}.'
    gone = silent >= TIMEOUT
  if not gone:
    return (
      f'{workdir} is in use by {who}, since {owner.get("since", "?")}: one run at a time is '
      'allowed.  Wait for it, end it, or use another --workdir; if it is surely gone, remove '
      f'{path}.'
    )
  if not _take_over(path, own, seen[0]):
    return f'{WAIT}{workdir} was locked by {who}, which is gone; another run may be faster.'
  log(f'{workdir} was locked by {who}, which is gone; this run has it now.')
  return ''


def _name(owner: dict) -> str:
  return f'process {owner.get("pid", "?")} on {owner.get("host", "another machine")}'


def _describe_self() -> bytes:
  """The contents of a lock whose owner is this process."""
  process = psutil.Process()
  return json.dumps(
    {
      **_host(),
      'pid': process.pid,
      'started': _started(process),
      'job': os.environ.get('SLURM_JOB_ID', ''),
      'restarts': os.environ.get('SLURM_RESTART_COUNT', '0'),
      'since': time.strftime('%Y-%m-%d %H:%M:%S %Z'),
      'token': secrets.token_hex(8),
    }
  ).encode()


def _host() -> dict[str, str]:
  """The scope of process numbers: a machine since its last boot, and a container on it."""
  boot, pids = pathlib.Path('/proc/sys/kernel/random/boot_id'), pathlib.Path('/proc/self/ns/pid')
  return {
    'host': socket.gethostname(),
    'boot': boot.read_text().strip() if boot.exists() else '',
    'pids': os.readlink(pids) if pids.exists() else '',
  }


def _started(process: psutil.Process) -> float:
  """The start of a process in seconds since boot, which setting the clock does not change."""
  return round(process.create_time() - psutil.boot_time(), 1)


def _is_gone(owner: dict) -> bool | None:
  """Whether the owner of a lock has ended; None if this process cannot find out."""
  if all(owner.get(name) == value for name, value in _host().items()):
    try:
      process = psutil.Process(owner['pid'])
      zombie = process.status() == psutil.STATUS_ZOMBIE
      return zombie or abs(_started(process) - owner['started']) > 0.5
    except psutil.Error:
      return None if psutil.pid_exists(owner['pid']) else True  # that of another user may be hidden
  job = os.environ.get('SLURM_JOB_ID', '')
  restarts = os.environ.get('SLURM_RESTART_COUNT', '0')
  # SLURM ends a job on all machines before it restarts it.
  return True if job and owner.get('job') == job and owner.get('restarts') != restarts else None


def _parsed(text: bytes) -> dict:
  """The contents of a lock; {} while it is being written."""
  try:
    owner = json.loads(text)
  except ValueError:
    return {}
  return owner if isinstance(owner, dict) else {}


def _create(path: pathlib.Path, own: bytes) -> bool:
  """Creates the lock with these contents, and returns True, unless it exists."""
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
    os.write(file, own)
  except OSError as error:
    path.unlink()
    raise UserFileError(f'Cannot write {path}: {error.strerror}.') from error
  finally:
    os.close(file)
  return True


def _take_over(path: pathlib.Path, own: bytes, stale: bytes) -> bool:
  """Replaces a stale lock, and returns True, unless another process does so at the same time."""
  turn = path.with_name(f'.{path.name}.turn')  # a lock of the lock
  if not _create(turn, own):
    with contextlib.suppress(FileNotFoundError):
      if _now(path, own) - turn.stat().st_mtime > TIMEOUT:  # its owner was killed
        turn.unlink()
    return False
  try:
    if _read(path) != stale:
      return False
    with new_file(path) as file:  # a rename, so that the lock exists all the time
      file.write_bytes(own)
    return True
  finally:
    turn.unlink(missing_ok=True)


def _now(path: pathlib.Path, own: bytes) -> float:
  """The time by the clock of the file system."""
  probe = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.probe')
  try:
    probe.write_bytes(own)
    return probe.stat().st_mtime
  finally:
    probe.unlink(missing_ok=True)


def _read(path: pathlib.Path) -> bytes | None:
  try:
    return path.read_bytes()
  except FileNotFoundError:
    return None


def _keep(workdir, own, done, end):
  """Touches the lock until `done`; calls `end` if another run has taken it over."""
  path = workdir / FILE
  while not done.wait(HEARTBEAT):
    with contextlib.suppress(OSError):  # the disk may be unavailable for a moment
      if (current := _read(path)) is None and _create(path, own):
        continue  # somebody had removed it
      if current != own:
        who = _name(_parsed(current or b''))
        print(f'error: {workdir} was taken over by {who}.', file=sys.stderr, flush=True)
        return end(LOST)
      os.utime(path)
