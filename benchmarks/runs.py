"""Starts `train.py` on a tiny model in processes of its own, and reads what the runs write."""

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

# A tiny model with all kinds of layers, a batch that 8 devices divide, and short intervals.
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
# Equals `python train.py`, but code can be put before it.
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
  """Starts or resumes a run, whose output goes to `log(workdir)`, and returns its process.

  before: Python code that the process runs first, for example to make a function of `train` fail.
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
  """The file with the output of a run, or with --process_id of one of its processes."""
  index = [o.removeprefix('--process_id=') for o in options if o.startswith('--process_id=')]
  return workdir.with_name('.'.join([workdir.name, *index, 'log']))


def finished(process: subprocess.Popen, workdir: pathlib.Path) -> None:
  """Waits for the end of a run; RuntimeError if it fails."""
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
  """Starts a run in `count` processes, which connect on a free port; see `start` for the rest."""
  with socket.socket() as one:
    one.bind(('localhost', 0))
    port = one.getsockname()[1]
  who = (f'--num_processes={count}', f'--coordinator=localhost:{port}')
  return [
    start(workdir, changes, options=[*options, *who, f'--process_id={i}'], **more)
    for i in range(count)
  ]


def lines(workdir: pathlib.Path) -> list[dict]:
  """The lines of `metrics.jsonl`."""
  path = workdir / 'metrics.jsonl'
  text = path.read_text() if path.exists() else ''
  return [json.loads(line) for line in text.splitlines() if line.endswith('}')]


def losses(workdir: pathlib.Path) -> dict[int, float]:
  """The loss of each step; the last one if it was logged twice."""
  return {line['step']: line['loss'] for line in lines(workdir) if 'loss' in line}


def starts(workdir: pathlib.Path) -> list[int]:
  """The step at which each start of the run began."""
  return [line['step'] for line in lines(workdir) if 'started' in line]


def wait_until(happened: Callable[[], bool], process: subprocess.Popen) -> bool:
  """Waits until `happened()` is true, or the process has ended; returns whether it was true."""
  while process.poll() is None:
    if happened():
      return True
    time.sleep(0.01)
  return False


def kill(process: subprocess.Popen) -> None:
  """Kills a process by SIGKILL."""
  process.send_signal(signal.SIGKILL)
  process.wait()


def arrays(workdir: pathlib.Path, step: int) -> dict[str, bytes]:
  """The bytes of all arrays in a checkpoint, of frozen parameters, and of the data's position."""
  result = {}
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
      result[f'{part}/{name}'] = np.asarray(value).tobytes()
  return result | {'data': (workdir / f'checkpoints/{step}/data/metadata').read_bytes()}


def undisturbed(folder: pathlib.Path) -> dict[str, bytes]:
  """All arrays of the last step of an undisturbed run, by name."""
  workdir = folder / 'whole'
  if not workdir.exists():
    finished(start(workdir), workdir)
  return arrays(workdir, STEPS)


def require(condition: bool, message: str) -> None:
  """Raises AssertionError with the message if the condition is false."""
  if not condition:
    raise AssertionError(message)
