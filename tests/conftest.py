"""What all tests share: 8 devices, how XLA compiles, and one tiny video model."""

import contextlib
import dataclasses
import functools
import gc
import os
import pathlib
import signal
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest

from core.condition import Condition
from stunet.unet import STUNet
from tests.oracles import random_params

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Most of the time of tests goes into compiling networks that hardly run; with these flags XLA needs
# a quarter of it.  Processes that tests start inherit them.
FLAGS = ['--xla_backend_optimization_level=0', '--xla_cpu_parallel_codegen_split_count=1']
# XLA ends a process that sets a flag which it does not know.
HAS_FUSION_EMITTERS_FLAG = jax.__version_info__ < (0, 11)
if HAS_FUSION_EMITTERS_FLAG:
  FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ.setdefault('XLA_FLAGS', ' '.join(FLAGS))

# A shell script that starts pytest in the background makes it ignore Ctrl-C, and whatever pytest
# starts inherits that; tests of interrupts need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_compilation_cache_dir', str(ROOT / '.jax_cache'))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)

TIME_LIMIT = 600  # seconds, of one test with its fixtures

# The smallest model with a resampling in space and time, and every kind of layer.
TINY = {
  'channels': (8, 16),
  'down_units': (1, 1),
  'up_units': (1, 1),
  'attention': ('none', 'joint'),
  'temporal_strides': (1, 2),
  'temporal_attentions': (0, 1),
  'head_features': 8,
  'pool_heads': 2,
  'groups': 4,
}

# Smaller yet: without any resampling, for what takes long to compile.
SMALL = TINY | {
  'channels': (8,),
  'down_units': (0,),
  'up_units': (1,),
  'attention': ('joint',),
  'temporal_strides': (1,),
  'temporal_attentions': (1,),
}

# Convolutions alone, for tests of commands and videos, in which any network will do.
PLAIN = SMALL | {'attention': ('none',), 'temporal_attentions': (0,)}


def pytest_collection_modifyitems(items):
  """Puts files of whole commands first and folders of quick files last: the former take longest,
  and all processes of pytest should end together."""

  def place(item):
    folder = item.path.relative_to(ROOT).parts[1:-1]
    return bool(folder), folder[:1] in (('core',), ('data',))

  items.sort(key=place)


def pytest_collection_finish():
  """Makes garbage collection rare, and exempts all that exists from it.

  Tracing makes little garbage; collecting as often as by default takes a seventh of its time.
  """
  gc.freeze()
  gc.set_threshold(100_000, 50, 100)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
  """Runs a test within `TIME_LIMIT`, so that one that hangs does not stop all the others."""

  def give_up(number, frame):
    raise TimeoutError(f'The test took longer than {TIME_LIMIT} s.')

  before = signal.signal(signal.SIGALRM, give_up)
  signal.alarm(TIME_LIMIT)
  try:
    return (yield)
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _children():
  return set(psutil.Process().children(recursive=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
  """Kills the processes that a failed test has started, which may wait for each other forever.

  Those that a fixture started before, such as a browser, go on: other tests use them.
  """
  before = _children()
  try:
    return (yield)
  except BaseException:
    for child in _children() - before:
      with contextlib.suppress(psutil.NoSuchProcess):
        if 'resource_tracker' not in ' '.join(child.cmdline()):
          child.kill()
    raise


@dataclasses.dataclass(frozen=True)
class Tiny:
  """A video model of random weights, the temporal ones too, and an example of its inputs."""

  model: STUNet
  params: dict
  apply: Callable  # (params, x, t, cond), compiled once for the inputs' shapes
  x: jax.Array
  t: jax.Array
  cond: Condition

  @property
  def inputs(self):
    return self.x, self.t, self.cond


def inputs(b=2, frames=4, seed=0, size=(8, 8)):
  """Noisy clips of that height and width, their times, and texts whose last token is masked."""
  rng = np.random.default_rng(seed)
  x = jnp.asarray(rng.normal(size=(b, frames, *size, 3)), jnp.float32)
  text = jnp.asarray(rng.normal(size=(b, 3, 8)), jnp.float32)
  mask = jnp.asarray([[True, True, False]] * b)
  return x, jnp.linspace(0.2, 0.9, b), Condition(text, mask)


@pytest.fixture(scope='session')
def tiny():
  """The tiny video model; tests that need a network share it, because compiling takes longest."""
  model, example = STUNet(**TINY), inputs()
  shapes = jax.eval_shape(model.init, jax.random.key(0), *example)['params']
  apply = jax.jit(lambda params, *inputs: model.apply({'params': params}, *inputs))
  return Tiny(model, random_params(shapes), apply, *example)


@pytest.fixture(scope='module')
def run(models):
  """Runs a verb of `sample.py` with the model that it needs; returns exit status, stdout and
  stderr.

  models: a fixture of the test file, the folder of its models.
  """
  from tests import scripts  # which imports all that a command needs

  with scripts.script('sample') as sample:
    yield functools.partial(scripts.call_verb, sample, models)
