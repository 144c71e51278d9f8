r"""Measures a step of training and one of sampling beside those of `lumiere-pytorch`, on a CPU.

  python -m venv ENV; ENV/bin/pip install torch lumiere-pytorch
  python -m benchmarks.lumiere_pytorch --torch_python=ENV/bin/python

Both networks are a frozen image U-Net of the same widths, depths, attention and resampling, which
either project inflates with its own temporal layers in the same places.  These alone are trained,
by AdamW with clipped gradients, to predict noise.  A step of sampling is the network without
guidance and an update of DDIM.  Both have all cores and compute in float32, and they take turns.

Operations are those of products and convolutions: ours are counted in the jaxpr, theirs by the
counter of PyTorch.  Their temporal upsampling is a transposed convolution, with half the operations
of ours, which repeats frames first; their attention has one projection more than ours.  Where the
operations differ by more than 1%, the last column has the ratio of the seconds for each of them.

Where there was a choice, it is the better one for theirs: frames of which the channels come last,
attention in time that is not fused, which is faster for few frames, and neither masks of text nor a
moving average of parameters, both of which ours has.
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

from benchmarks.paper_shape import narrow
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
TIMES = 0.5, 0.48  # of a step of sampling
STEPS = {'train': 'training', 'sample': 'sampling'}
WARM_UP = 2  # steps that do not count
NEAR = 0.01  # by which operations may differ and still be called the same
WORKER = pathlib.Path(__file__).with_name('lumiere_pytorch_worker.py')
HOW = 'make one: python -m venv ENV; ENV/bin/pip install torch lumiere-pytorch'

# The name of a step -> the seconds it took.
Timed = Callable[[str], float]


class Ours:
  """Our steps, compiled, and what they cost."""

  def __init__(self, frames: int, size: int, batch: int):
    clip, self.key = (batch, frames, size, size, 3), jax.random.key(0)
    text = jax.random.normal(self.key, (batch, TEXT['tokens'], TEXT['width']))
    self.cond = Condition(text, jnp.ones(text.shape[:2], bool))
    self.xt, self.keys = jax.random.normal(self.key, clip), video_keys(0, jnp.arange(batch))
    self.batch = {'video': jax.random.randint(self.key, clip, 0, 256, jnp.uint8)}
    self.batch |= {'text': text, 'text_mask': self.cond.text_mask}
    model, self.process = STUNet(**MODEL), Process(prediction='eps')
    model.check_frames(frames)
    self.apply, params = narrow(model, Condition(text[:1]))
    trained, self.frozen = partition(params, TEMPORAL)

    tx = make_optimizer(1000, **OPTIMIZER)
    # Compiled, so that no two of its numbers are one buffer, which could not be donated twice.
    self.state = jax.jit(lambda trained: State.create(trained, tx))(trained)
    self.about = {'trained': count(trained), 'frozen': count(self.frozen), 'flops': {}}
    options = dict(steps=1000, ema_decay=0.9999, drop_text=0.1, accumulate=1)
    step = make_step(self.apply, self.process, tx, **options)
    self.steps = {
      'train': self._compiled('train', jax.jit(step, donate_argnums=0), *self._training()),
      'sample': self._compiled('sample', jax.jit(self._ddim), *self._sampling()),
    }

  def seconds(self, name: str) -> float:
    """What one step takes."""
    inputs = self._training() if name == 'train' else self._sampling()
    begin = time.perf_counter()
    made = jax.block_until_ready(self.steps[name](*inputs))
    passed = time.perf_counter() - begin
    if name == 'train':
      self.state, _ = made  # the one before was donated
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
  """Raises ValueError unless it is a Python of an environment with what `how` installs."""
  if not python:
    raise UserError(f'--torch_python is missing: the Python of another environment; {how}.')
  *_, installed = how.partition('pip install ')
  libraries = ', '.join(installed.replace('-', '_').split())
  try:
    called = [python, '-I', '-c', f'import {libraries}']
    found = subprocess.run(called, capture_output=True, text=True)
  except OSError as error:
    raise UserError(f'--torch_python={python} does not start ({error.strerror}); {how}.') from error
  if found.returncode:
    *_, why = found.stderr.strip().splitlines() or ['no word why']
    raise UserError(f'--torch_python={python} cannot import {libraries} ({why}); {how}.')


@contextlib.contextmanager
def theirs(python: str, shape: dict, worker: pathlib.Path = WORKER) -> Iterator[tuple[dict, Timed]]:
  """What the other process says of itself, and its steps; it ends afterwards."""
  # Isolated, as the folder of the worker has this file, which is called as the library is.
  called = [python, '-I', worker, json.dumps(shape)]
  with subprocess.Popen(
    called, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  ) as process:

    def answer():
      line = process.stdout.readline()
      if not line:
        raise UserError(f'{worker.name} has ended before it answered; its own words are above.')
      return json.loads(line)

    def seconds(name):
      print(name, file=process.stdin, flush=True)
      return answer()['seconds']

    yield answer(), seconds


def measure(sides: dict[str, Timed], runs: int) -> dict[tuple[str, str], list[float]]:
  """The seconds of every step of each side, which take turns, after some that do not count."""
  found = {(name, side): [] for name in STEPS for side in sides}
  for i in tqdm(range(WARM_UP + runs), unit='turn'):
    for name, side in found:
      seconds = sides[side](name)
      if i >= WARM_UP:
        found[name, side].append(seconds)
  return found


def table(about: dict[str, dict], found: dict[tuple[str, str], list[float]]) -> str:
  """In Markdown; the first side is compared with each of the others."""
  first = next(iter(about))
  rows = [
    '| step | | parameters, trained + frozen | GFLOP | seconds, median | least to most | ratio '
    '| ratio for each operation |',
    '|---|---|---|---|---|---|---|---|',
  ]
  for (name, side), seconds in found.items():
    of, median = about[side], statistics.median(seconds)
    ratios = ' | '
    if side != first:
      ratio = statistics.median(found[name, first]) / median
      more = about[first]['flops'][name] / of['flops'][name]
      ratios = f'{ratio:.3f} | {ratio / more:.3f}' if abs(more - 1) > NEAR else f'{ratio:.3f} | '
    rows.append(
      f'| {STEPS[name]} | {side} | {of["trained"]:,} + {of["frozen"]:,} '
      f'| {of["flops"][name] / 1e9:.2f} | {median:.3f} | {min(seconds):.3f} to {max(seconds):.3f} '
      f'| {ratios} |'
    )
  return '\n'.join(rows)


def cpu() -> str:
  """The name of the processor, as Linux has it."""
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
      started = theirs(f.torch_python, shape | {'compile': compiled})
      about[side], sides[side] = stack.enter_context(started)
    found = measure(sides, f.runs)

  print(table(about, found))
  other = about['lumiere-pytorch']
  versions = {name: metadata.version(name) for name in ('jax', 'jaxlib', 'flax')}
  named = ', '.join(f'{name} {version}' for name, version in (versions | other['versions']).items())
  print(f'{f.batch} x {f.frames} frames of {f.size}x{f.size}, float32, {f.runs} turns; {named}')
  print(f'{cpu()}, {os.cpu_count()} cores; {other["threads"]} threads of PyTorch, all of XLA')


if __name__ == '__main__':
  flags.DEFINE_string('torch_python', None, 'The Python of an environment with lumiere-pytorch.')
  flags.DEFINE_integer('frames', 16, 'Of each clip, a multiple of 4.', lower_bound=4)
  flags.DEFINE_integer('size', 64, 'The side of a frame, a multiple of 4.', lower_bound=4)
  flags.DEFINE_integer('batch', 4, 'Clips of a step.', lower_bound=1)
  flags.DEFINE_integer('runs', 10, 'Steps of each that count.', lower_bound=1)
  flags.DEFINE_bool('torch_channels_last', True, 'Whether channels come last in theirs.')
  flags.DEFINE_bool('torch_compile', False, 'Whether theirs is measured compiled besides.')
  command.run(main)
