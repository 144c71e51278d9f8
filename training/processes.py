"""Many processes that train one model: how they find each other, and that they agree."""

import hashlib
import os
import pathlib
import secrets
import socket
import sys
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils

from core.errors import UserError
from core.folder import new_file
from training import schedulers
from training.phases import STALLED

AUTO = 'auto'
GRACE = 20  # seconds for which a process that fails waits, as it ends, for others to end too
MEET = 300  # seconds within which all processes have to be there


def join(coordinator: str | None, num: int | None, index: int | None) -> None:
  """Makes this process one of many, if the arguments or a scheduler's environment say so.

  coordinator: HOST:PORT of process 0, or `AUTO` where JAX finds out by itself, as on Cloud TPU VMs.
  num: how many processes there are; 1 without the others is this one alone, whatever a scheduler
    says.

  ValueError where only some of the arguments are given, where the environment contradicts itself,
  and where process 0 cannot have its port.  The process ends with `STALLED` where the others are
  not met within `MEET` seconds.
  """
  if (coordinator, num, index) == (None, 1, None):
    return
  auto = coordinator == AUTO
  if auto:
    coordinator = None
  given = [value is not None for value in (coordinator, num, index)]
  if any(given) and not all(given):
    raise UserError(
      '--coordinator, --num_processes and --process_id are given together, or not at all, or '
      f'--coordinator={AUTO} or --num_processes=1 alone.'
    )
  if any(given):
    if index >= num:
      raise UserError(f'Got --process_id={index} of {num}; 0..{num - 1} are allowed.')
    _require_address(coordinator, binds=index == 0)
  scheduler = None if auto or any(given) else schedulers.started_by()
  if auto or any(given) or scheduler:
    _meet(coordinator, num, index, scheduler or f'--coordinator={coordinator or AUTO}')


def _meet(coordinator, num, index, by: str) -> None:
  """Connects to the others; ValueError where JAX does not know them."""
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  # It would take SIGTERM for itself, and `training.stops` would never get it.
  jax.config.update('jax_enable_preemption_service', False)
  # Of itself JAX aborts with a trace, and only after more than the time that it is given.
  timer = threading.Timer(MEET, _give_up, [f' at {coordinator}' if coordinator else ''])
  timer.daemon = True
  timer.start()
  try:
    limits = dict(initialization_timeout=2 * MEET, shutdown_timeout_seconds=GRACE)
    jax.distributed.initialize(coordinator, num, index, **limits)
  except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
    reason = str(error).rstrip('.')
    raise UserError(
      f'JAX finds no other processes by {by} ({reason}); {schedulers.ALONE}.'
    ) from error
  finally:
    timer.cancel()


def _require_address(coordinator: str, *, binds: bool) -> None:
  """ValueError unless it is HOST:PORT, whose port this process can have if it `binds`."""
  host, _, port = coordinator.rpartition(':')
  if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
    raise UserError(
      f'Got --coordinator={coordinator}; allowed are {AUTO} and HOST:PORT, as in 10.0.0.1:1234.'
    )
  if not binds:
    return
  # Two services of JAX could have one port, and take each other's processes for their own.
  both = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if both else socket.AF_INET
  try:
    socket.create_server(('', int(port)), family=family, dualstack_ipv6=both).close()
  except OSError as error:
    raise UserError(
      f'Got --coordinator={coordinator}, but process 0 cannot have port {port}: '
      f'{error.strerror}.  Say another one, to all processes.'
    ) from error


def _give_up(where: str) -> None:
  print(
    f'error: the other processes were not met{where} within {MEET} s: not all of them are started, '
    'or they cannot reach each other.',
    file=sys.stderr,
    flush=True,
  )
  os._exit(STALLED)


def require_same(config: str, code: pathlib.Path, workdir: pathlib.Path) -> None:
  """ValueError, in every process, where they differ in config, code, versions or file system."""
  if jax.process_count() == 1:
    return
  mine = {
    'config': config,
    'code': _code(code),
    'versions of JAX': jax.__version__,
    'files in --workdir': _left_by_the_first(workdir),
  }
  digests = np.stack([_digest(text) for text in mine.values()])
  all_of_them = np.asarray(multihost_utils.process_allgather(digests))
  wrong = {
    what: np.flatnonzero((all_of_them[:, i] != all_of_them[0, i]).any(-1)).tolist()
    for i, what in enumerate(mine)
  }
  if wrong := {what: who for what, who in wrong.items() if who}:
    said = '; '.join(f'{what}: {", ".join(map(str, who))}' for what, who in wrong.items())
    raise UserError(f'These processes have others than process 0 has.  {said}.')


def _digest(text: str):
  return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)


def _code(root: pathlib.Path) -> str:
  """A digest of all that is imported from this project."""
  files = sorted(p for p in root.rglob('*.py') if not any(s.startswith('.') for s in p.parts))
  return hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()


def _left_by_the_first(workdir: pathlib.Path) -> str:
  """What process 0 has just written there, as this process sees it."""
  path = workdir / 'processes.txt'
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
      file.write_text(secrets.token_hex())
  multihost_utils.sync_global_devices('written')
  seen = path.read_text() if path.exists() else ''
  multihost_utils.sync_global_devices('read')
  if jax.process_index() == 0:
    path.unlink()
  return seen
