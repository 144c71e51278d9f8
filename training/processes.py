"""Many processes that train one model: they connect, and check that they are alike."""

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from core import files
from core.errors import UserError
from core.folder import new_file
from core.usage import Verb
from training import cluster, failures
from training.agreement import from_first
from training.phases import STALLED

AUTO = 'auto'
GRACE = 20  # seconds for which a process that ends waits for the others to end too
MEET = 300  # seconds within which all processes have to connect


def join(coordinator: str | None, num: int | None, index: int | None) -> None:
  """Connects this process to others, if the arguments or a scheduler's environment say so.

  coordinator: HOST:PORT of process 0, or `AUTO` if JAX can find it itself, as on Cloud TPU VMs.
  num: the number of processes; 1 without the other arguments runs this process alone, even under a
    scheduler.
  index: the number of this process, from 0.

  UserError if only some of the arguments are set, if the environment contradicts itself, and if
  process 0 cannot listen on its port.  The process ends with `STALLED` if the others do not connect
  within `MEET` seconds.
  """
  if (coordinator, num, index) == (None, 1, None):
    return
  auto = coordinator == AUTO
  if auto:
    coordinator = None
  is_set = [value is not None for value in (coordinator, num, index)]
  if any(is_set) and not all(is_set):
    raise UserError(
      '--coordinator, --num_processes and --process_id are given together, or not at all, or '
      f'--coordinator={AUTO} or --num_processes=1 alone.'
    )
  if any(is_set):
    if index >= num:
      raise UserError(f'Got --process_id={index} of {num}; 0..{num - 1} are allowed.')
    _require_address(coordinator, binds=index == 0)
  scheduler = None if auto or any(is_set) else cluster.started_by()
  if auto or any(is_set) or scheduler:
    _connect(coordinator, num, index, scheduler or f'--coordinator={coordinator or AUTO}')


def _connect(coordinator, num, index, source: str) -> None:
  """Connects to the other processes; UserError if JAX does not find them.

  source: where the arguments come from, for the message of the error.
  """
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  # JAX's preemption service would handle SIGTERM, and `training.stops` would never get it.
  jax.config.update('jax_enable_preemption_service', False)
  # JAX's own timeout aborts with a stack trace, and takes longer than its limit.
  timer = threading.Timer(MEET, _give_up, [f' at {coordinator}' if coordinator else ''])
  timer.daemon = True
  timer.start()
  try:
    limits = dict(initialization_timeout=2 * MEET, shutdown_timeout_seconds=GRACE)
    jax.distributed.initialize(coordinator, num, index, **limits)
  except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
    reason = str(error).rstrip('.')
    raise UserError(
      f'JAX finds no other processes by {source} ({reason}); {cluster.ALONE}.'
    ) from error
  finally:
    timer.cancel()


def _require_address(coordinator: str, *, binds: bool) -> None:
  """UserError unless this is HOST:PORT.  If `binds`, this process must be able to use the port."""
  host, _, port = coordinator.rpartition(':')
  if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
    raise UserError(
      f'Got --coordinator={coordinator}; allowed are {AUTO} and HOST:PORT, as in 10.0.0.1:1234.'
    )
  if not binds:
    return
  # Two coordinators of JAX could share a port, and each would get processes of the other's run.
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


@contextlib.contextmanager
def together(
  coordinator: str | None,
  num: int | None,
  index: int | None,
  report: Callable[[BaseException], int],
) -> Iterator[None]:
  """A context of this process alone, or of all those that `join` connects, in which an error of one
  ends all: see `ending_together`.  They leave it together, when the first one has written its
  files."""
  join(coordinator, num, index)
  with failures.ending_together(report):
    yield
    from_first(None)


def require_same(code: pathlib.Path, facts: Mapping[str, str]) -> None:
  """UserError, in all processes, if they differ in code, version of JAX or these facts, by name."""
  if jax.process_count() == 1:
    return
  mine = {'code': _code(code), 'versions of JAX': jax.__version__, **facts}
  digests = np.stack([_digest(text) for text in mine.values()])
  all_of_them = np.asarray(multihost_utils.process_allgather(digests))
  wrong = {
    what: np.flatnonzero((all_of_them[:, i] != all_of_them[0, i]).any(-1)).tolist()
    for i, what in enumerate(mine)
  }
  if wrong := {what: who for what, who in wrong.items() if who}:
    listed = '; '.join(f'{what}: {", ".join(map(str, who))}' for what, who in wrong.items())
    raise UserError(f'These processes have others than process 0 has.  {listed}.')


def _digest(text: str):
  return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)


def _code(root: pathlib.Path) -> str:
  """A digest of all Python files of this project."""
  files = sorted(p for p in root.rglob('*.py') if not any(s.startswith('.') for s in p.parts))
  return hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()


def of_command(verbs: Mapping[str, Verb], inputs: Iterable[str | None]) -> dict[str, str]:
  """The facts of a command with verbs: its flags, and the contents of the files that it reads."""
  names = {name for verb in verbs.values() for name in verb.names} - {'process_id'}
  values = {name: str(flags.FLAGS[name].value) for name in sorted(names)}
  paths = [pathlib.Path(name) for name in inputs if name]
  contents = files.digest(path for path in paths if path.is_file())  # others are refused later
  return {'flags': json.dumps(values), 'inputs': contents}


def token_of_first(workdir: pathlib.Path) -> str:
  """A token that process 0 writes to the workdir, as this process reads it; '' if it is alone."""
  if jax.process_count() == 1:
    return ''
  path = workdir / 'processes.txt'
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
      file.write_text(secrets.token_hex())
  multihost_utils.sync_global_devices('written')
  token = path.read_text() if path.exists() else ''
  multihost_utils.sync_global_devices('read')
  if jax.process_index() == 0:
    path.unlink()
  return token
