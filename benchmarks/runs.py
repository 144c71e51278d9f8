"""`train.py` as its users call it: runs of a tiny model in processes, and what they leave."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp

from core import command

# The smallest model with all kinds of layers, a batch that 8 devices divide, and everything often.
CHANGES = {
  'steps': 40,
  'log_every': 1,
  'save_every': 10,
  'evaluate_every': 20,
  'evaluate_batch': 8,
  'evaluate_times': 2,
  'sample_every': 0,
  'sampling.steps': 1,
  'shard_above': 64,
  'loader.batch': 8,
  'data.size': 8,
  'text.width': 8,
  'model.channels': (8, 16),
  'model.down_units': (1, 1),
  'model.up_units': (1, 1),
  'model.attention': ('none', 'joint'),
  'model.temporal_strides': (1, 2),
  'model.temporal_attentions': (0, 1),
  'model.head_features': 8,
  'model.pool_heads': 2,
  'model.groups': 4,
}
# What `python train.py` is, where something may come before.
MAIN = 'from core import command\nimport train\ncommand.run(train.main)'

STEPS, EVERY = CHANGES['steps'], CHANGES['save_every']


def start(
  workdir: pathlib.Path,
  changes: Mapping = {},
  *,
  config: str = 'configs/t2i.py:tiny',
  options: Sequence[str] = (),
  devices: int = 1,
  before: str = '',
) -> subprocess.Popen:
  """Begins, or resumes, a run; what it prints goes to `WORKDIR.log`, of many processes one each.

  before: Python that is run in the process first, where something of `train` is to go wrong.
  """
  changes = {f'--config.{key}': value for key, value in (CHANGES | dict(changes)).items()}
  arguments = [f'{key}={value}' for key, value in changes.items()]
  code = f'import sys; sys.argv[0] = "train.py"\n{before}\n{MAIN}'
  line = [sys.executable, '-c', code, f'--config={config}', f'--workdir={workdir}']
  flags = f'--xla_backend_optimization_level=0 {os.environ.get("XLA_FLAGS", "")}'
  environment = {
    **os.environ,
    'XLA_FLAGS': f'{flags} --xla_force_host_platform_device_count={devices}',
    'JAX_COMPILATION_CACHE_DIR': str(command.ROOT / '.jax_cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  }
  with log(workdir, *options).open('a') as file:
    return subprocess.Popen(
      [*line, *arguments, *options],
      cwd=command.ROOT,
      env=environment,
      stdout=file,
      stderr=subprocess.STDOUT,
    )


def log(workdir: pathlib.Path, *options: str) -> pathlib.Path:
  """Where a process of the run prints to."""
  index = [o.removeprefix('--process_id=') for o in options if o.startswith('--process_id=')]
  return workdir.with_name('.'.join([workdir.name, *index, 'log']))


def finished(process: subprocess.Popen, workdir: pathlib.Path) -> None:
  """Waits for a run that should end well; RuntimeError where it does not."""
  if process.wait():
    raise RuntimeError(f'A run ended with {process.returncode}: {log(workdir).read_text()[-3000:]}')


def many_processes(
  count: int,
  workdir: pathlib.Path,
  changes: Mapping = {},
  *,
  options: Sequence[str] = (),
  **more,
) -> list[subprocess.Popen]:
  """The run in so many processes that find each other on a free port; see `start` for the rest."""
  with socket.socket() as one:
    one.bind(('localhost', 0))
    port = one.getsockname()[1]
  who = (f'--num_processes={count}', f'--coordinator=localhost:{port}')
  return [
    start(workdir, changes, options=[*options, *who, f'--process_id={i}'], **more)
    for i in range(count)
  ]


def lines(workdir: pathlib.Path) -> list[dict]:
  """What is in `metrics.jsonl` so far."""
  path = workdir / 'metrics.jsonl'
  text = path.read_text() if path.exists() else ''
  return [json.loads(line) for line in text.splitlines() if line.endswith('}')]


def losses(workdir: pathlib.Path) -> dict[int, float]:
  """The loss of each step, the last that was told."""
  return {line['step']: line['loss'] for line in lines(workdir) if 'loss' in line}


def starts(workdir: pathlib.Path) -> list[int]:
  """The step at which each start of the run began."""
  return [line['step'] for line in lines(workdir) if 'started' in line]


def wait_until(happened: Callable[[], bool], process: subprocess.Popen) -> bool:
  """Whether it happened before the process ended."""
  while process.poll() is None:
    if happened():
      return True
    time.sleep(0.01)
  return False


def kill(process: subprocess.Popen) -> None:
  """As by a scheduler without mercy."""
  process.send_signal(signal.SIGKILL)
  process.wait()


def arrays(workdir: pathlib.Path, step: int) -> dict[str, bytes]:
  """The bytes of all that is saved of a step and of what is frozen, and the data's position."""
  found = {}
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=here)
  folder = workdir.resolve()
  parts = {part: folder / f'checkpoints/{step}/{part}' for part in ('ema', 'train')}
  if (folder / 'frozen').exists():
    parts['frozen'] = folder / 'frozen'
  for part, path in parts.items():
    with ocp.StandardCheckpointer() as checkpointer:
      tree = checkpointer.metadata(path).item_metadata.tree
      tree = checkpointer.restore(path, jax.tree.map(like, tree))
    for name, value in jax.tree_util.tree_leaves_with_path(tree):
      name = jax.tree_util.keystr(name, simple=True, separator='/')
      found[f'{part}/{name}'] = np.asarray(value).tobytes()
  return found | {'data': (workdir / f'checkpoints/{step}/data/metadata').read_bytes()}


def whole(folder: pathlib.Path) -> dict[str, bytes]:
  """What a run leaves that nothing befalls: all arrays of its last step, by name."""
  workdir = folder / 'whole'
  if not workdir.exists():
    finished(start(workdir), workdir)
  return arrays(workdir, STEPS)


def require(holds: bool, otherwise: str) -> None:
  """AssertionError, which says so, unless it holds."""
  if not holds:
    raise AssertionError(otherwise)
