r"""Measures the time of a training and a sampling step against `lumiere-pytorch`, on a CPU.

  python -m venv ENV; ENV/bin/pip install torch lumiere-pytorch
  python -m benchmarks.lumiere_pytorch --torch_python=ENV/bin/python

Both networks are a frozen image U-Net with the same widths, depths, attention and resampling.  Each
project inflates it with its own temporal layers, in the same places.  Only these are trained, to
predict noise, by AdamW with gradient clipping.  A sampling step is one call of the network without
guidance and an update of DDIM.  Both use all cores and float32, and they take turns.

Operations are those of matrix products and convolutions: ours are counted in the jaxpr, and those
of lumiere-pytorch by PyTorch's counter.  Its temporal upsampling is a transposed convolution, which
has half the operations of ours, since ours repeats frames first.  Its attention has one more
projection.  If operations differ by more than 1%, the last column has the ratio of seconds per
operation.

Options are those that are fastest for lumiere-pytorch: channels last, and unfused temporal
attention, which is faster for few frames.  It has no text mask and no moving average of parameters;
our step has both.
"""

import contextlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import metadata

import jax
import jax.numpy as jnp
from absl import flags
from tqdm import tqdm

from benchmarks.paper_shape import random_params
from core import command
from core.condition import Condition
from core.errors import UserError
from core.params import count, merge, partition
from diffusion.denoiser import network
from diffusion.process import Process
from diffusion.sampler import ddim
from diffusion.sampling import video_keys
from stunet.inflate import TEMPORAL
from stunet.unet import STUNet
from training import flops
from training.optimizer import make_optimizer
from training.state import State
from training.step import make_step

MODEL = {
  'channels': (64, 128, 256),
  'down_units': (1, 1, 1),
  'up_units': (2, 2, 2),
  'attention': ('none', 'none', 'joint'),
  'temporal_strides': (1, 2, 2),
  'temporal_attentions': (0, 0, 1),
  'resample': 'conv',
  'head_features': 32,
  'groups': 32,
  'pool_heads': 8,
  'emb_features': 256,
  'activation': 'silu',
}
TEXT = {'tokens': 16, 'width': 64}
OPTIMIZER = {
  'name': 'adamw',
  'learning_rate': 1e-4,
  'warmup': 100,
  'decay': 'constant',
  'clip': 1.0,
  'weight_decay': 0.0,
  'b1': 0.9,
  'b2': 0.999,
  'eps': 1e-8,
}
TIMES = 0.5, 0.48  # of the sampling step
STEPS = {'train': 'training', 'sample': 'sampling'}
WARM_UP = 2  # steps before the measured ones
NEAR = 0.01  # the relative difference up to which operations count as equal
WORKER = pathlib.Path(__file__).with_name('lumiere_pytorch_worker.py')
HOW = 'make one: python -m venv ENV; ENV/bin/pip install torch lumiere-pytorch'

# The name of a step -> its seconds.
Timed = Callable[[str], float]


class Ours:
  """The compiled steps of this project, and their parameters and operations."""

  def __init__(self, frames: int, size: int, batch: int):
    clip, self.key = (batch, frames, size, size, 3), jax.random.key(0)
    text = jax.random.normal(self.key, (batch, TEXT['tokens'], TEXT['width']))
    self.cond = Condition(text, jnp.ones(text.shape[:2], bool))
    self.xt, self.keys = jax.random.normal(self.key, clip), video_keys(0, jnp.arange(batch))
    self.batch = {'video': jax.random.randint(self.key, clip, 0, 256, jnp.uint8)}
    self.batch |= {'text': text, 'text_mask': self.cond.text_mask}
    model, self.process = STUNet(**MODEL), Process(prediction='eps')
    model.check_frames(frames)
    shapes = jax.eval_shape(model.init, self.key, self.xt, jnp.ones(batch), self.cond)
    params = random_params(shapes['params'])
    self.apply = lambda params, *inputs: model.apply({'params': params}, *inputs)
    trained, self.frozen = partition(params, TEMPORAL)

    tx = make_optimizer(1000, **OPTIMIZER)
    # Compiled so that no two arrays share a buffer, which could not be donated twice.
    self.state = jax.jit(lambda trained: State.create(trained, tx))(trained)
    self.about = {'trained': count(trained), 'frozen': count(self.frozen), 'flops': {}}
    options = dict(steps=1000, ema_decay=0.9999, drop_text=0.1, accumulate=1)
    step = make_step(self.apply, self.process, tx, **options)
    self.steps = {
      'train': self._compiled('train', jax.jit(step, donate_argnums=0), *self._training()),
      'sample': self._compiled('sample', jax.jit(self._ddim), *self._sampling()),
    }

  def seconds(self, name: str) -> float:
    """The seconds of one step."""
    inputs = self._training() if name == 'train' else self._sampling()
    begin = time.perf_counter()
    result = jax.block_until_ready(self.steps[name](*inputs))
    passed = time.perf_counter() - begin
    if name == 'train':
      self.state, _ = result  # the previous state was donated
    return passed

  def _compiled(self, name, step, *inputs):
    traced = step.trace(*inputs)
    self.about['flops'][name] = flops.count(traced.jaxpr.jaxpr)
    return traced.lower().compile()

  def _training(self):
    return self.state, self.frozen, self.batch, self.key

  def _sampling(self):
    return self.state.params, self.frozen, self.cond, self.xt, self.keys

  def _ddim(self, trained, frozen, cond, xt, keys):
    denoiser = network(self.apply, merge(trained, frozen), self.process)
    return ddim(denoiser, cond, xt, self.process, jnp.array(TIMES), keys=keys)


def check(python: str | None, how: str = HOW) -> None:
  """Raises ValueError unless `python` can import the packages that `how` installs."""
  if not python:
    raise UserError(
      f'--torch_python is missing; allowed is the Python of another environment: {how}.'
    )
  *_, installed = how.partition('pip install ')
  libraries = ', '.join(installed.replace('-', '_').split())
  try:
    line = [python, '-I', '-c', f'import {libraries}']
    done = subprocess.run(line, capture_output=True, text=True)
  except OSError as error:
    raise UserError(f'--torch_python={python} does not start ({error.strerror}); {how}.') from error
  if done.returncode:
    *_, reason = done.stderr.strip().splitlines() or ['without a message']
    raise UserError(f'--torch_python={python} cannot import {libraries} ({reason}); {how}.')


@contextlib.contextmanager
def torch_worker(
  python: str, shape: dict, worker: pathlib.Path = WORKER
) -> Iterator[tuple[dict, Timed]]:
  """Starts a worker, and yields its description and a function that measures one of its steps."""
  # Isolated mode, because the folder of the worker has this file, which has the name of the
  # library.
  line = [python, '-I', worker, json.dumps(shape)]
  with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

    def read():
      line = process.stdout.readline()
      if not line:
        raise UserError(f'{worker.name} ended without an answer; its output is above.')
      return json.loads(line)

    def seconds(name):
      print(name, file=process.stdin, flush=True)
      return read()['seconds']

    yield read(), seconds


def measure(sides: dict[str, Timed], runs: int) -> dict[tuple[str, str], list[float]]:
  """The seconds of each step of each implementation; they take turns, after a warm-up."""
  times = {(name, side): [] for name in STEPS for side in sides}
  for i in tqdm(range(WARM_UP + runs), unit='turn'):
    for name, side in times:
      seconds = sides[side](name)
      if i >= WARM_UP:
        times[name, side].append(seconds)
  return times


def table(about: dict[str, dict], times: dict[tuple[str, str], list[float]]) -> str:
  """A Markdown table, in which the first implementation is compared with each of the others."""
  first = next(iter(about))
  rows = [
    '| step | | parameters, trained + frozen | GFLOP | seconds, median | least to most | ratio '
    '| ratio for each operation |',
    '|---|---|---|---|---|---|---|---|',
  ]
  for (name, side), seconds in times.items():
    cost, median = about[side], statistics.median(seconds)
    ratios = ' | '
    if side != first:
      ratio = statistics.median(times[name, first]) / median
      more = about[first]['flops'][name] / cost['flops'][name]
      ratios = f'{ratio:.3f} | {ratio / more:.3f}' if abs(more - 1) > NEAR else f'{ratio:.3f} | '
    rows.append(
      f'| {STEPS[name]} | {side} | {cost["trained"]:,} + {cost["frozen"]:,} '
      f'| {cost["flops"][name] / 1e9:.2f} | {median:.3f} | {min(seconds):.3f} to '
      f'{max(seconds):.3f} | {ratios} |'
    )
  return '\n'.join(rows)


def cpu() -> str:
  """The name of the processor."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
  f = flags.FLAGS
  check(f.torch_python)
  ours = Ours(f.frames, f.size, f.batch)
  shape = MODEL | TEXT | {name: f[name].value for name in ('frames', 'size', 'batch')}
  shape |= {'threads': os.cpu_count(), 'channels_last': f.torch_channels_last}
  about, sides = {'ours': ours.about}, {'ours': ours.seconds}
  kinds = {'lumiere-pytorch': False}
  if f.torch_compile:
    kinds['lumiere-pytorch, compiled'] = True
  with contextlib.ExitStack() as stack:
    for side, compiled in kinds.items():
      started = torch_worker(f.torch_python, shape | {'compile': compiled})
      about[side], sides[side] = stack.enter_context(started)
    times = measure(sides, f.runs)

  print(table(about, times))
  other = about['lumiere-pytorch']
  versions = {name: metadata.version(name) for name in ('jax', 'jaxlib', 'flax')}
  named = ', '.join(f'{name} {version}' for name, version in (versions | other['versions']).items())
  print(f'{f.batch} x {f.frames} frames of {f.size}x{f.size}, float32, {f.runs} turns; {named}')
  print(f'{cpu()}, {os.cpu_count()} cores; {other["threads"]} threads of PyTorch, all of XLA')


if __name__ == '__main__':
  flags.DEFINE_string(
    'torch_python', None, 'Path of the Python of an environment with lumiere-pytorch.'
  )
  flags.DEFINE_integer(
    'frames', 16, 'Number of frames of each clip, a multiple of 4.', lower_bound=4
  )
  flags.DEFINE_integer('size', 64, 'Side of a frame in pixels, a multiple of 4.', lower_bound=4)
  flags.DEFINE_integer('batch', 4, 'Number of clips in a step.', lower_bound=1)
  flags.DEFINE_integer(
    'runs', 10, 'Number of measured steps of each implementation.', lower_bound=1
  )
  flags.DEFINE_bool(
    'torch_channels_last', True, 'Whether lumiere-pytorch uses the channels-last memory format.'
  )
  flags.DEFINE_bool(
    'torch_compile', False, 'Whether to measure lumiere-pytorch with torch.compile too.'
  )
  command.run(main)
