"""Many processes that train one model: how they find each other, and that they agree."""

import hashlib
import os
import pathlib
import secrets

import jax
import numpy as np
from jax.experimental import multihost_utils

AUTO = 'auto'
GRACE = 20  # seconds for which a process that fails waits, as it ends, for others to end too

# Of the schedulers whose processes JAX can tell apart: the variable, and what says they are many.
SCHEDULERS = {
  'SLURM_NTASKS': lambda n: int(n) > 1,
  'OMPI_COMM_WORLD_SIZE': lambda n: int(n) > 1,
  'TPU_WORKER_HOSTNAMES': lambda names: ',' in names,
  'MEGASCALE_NUM_SLICES': lambda n: int(n) > 1,
}


def join(coordinator: str | None, num: int | None, index: int | None) -> None:
  """Makes this process one of many, if the arguments or a scheduler's environment say so.

  coordinator: HOST:PORT of process 0, or `AUTO` where JAX finds out by itself, as on Cloud TPU VMs.
  ValueError where only some of the arguments are given.
  """
  found = coordinator == AUTO
  if found:
    coordinator = None
  given = [value is not None for value in (coordinator, num, index)]
  if any(given) and not all(given):
    raise ValueError(
      '--coordinator, --num_processes and --process_id are given together, or not at all, or '
      f'--coordinator={AUTO} alone.'
    )
  if any(given) and index >= num:
    raise ValueError(f'Got --process_id={index} of {num}; 0..{num - 1} are allowed.')
  many = [name for name, says in SCHEDULERS.items() if says(os.environ.get(name, '0'))]
  if any(given) or found or many:
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.distributed.initialize(coordinator, num, index, shutdown_timeout_seconds=GRACE)


def gathered(x: jax.Array) -> np.ndarray:
  """The whole of an array, in all processes which call this together, wherever its parts are."""
  if x.is_fully_addressable or x.is_fully_replicated:
    return np.asarray(x)
  return np.asarray(multihost_utils.process_allgather(x, tiled=True))


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
    raise ValueError(f'These processes have others than process 0 has.  {said}.')


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
    path.write_text(secrets.token_hex())
  multihost_utils.sync_global_devices('written')
  seen = path.read_text() if path.exists() else ''
  multihost_utils.sync_global_devices('read')
  if jax.process_index() == 0:
    path.unlink()
  return seen
