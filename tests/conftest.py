"""What all tests share: 8 devices, how XLA compiles, and one tiny video model."""

import dataclasses
import gc
import os
import pathlib
import signal
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from stunet.unet import STUNet
from tests.oracles import random_params

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Most of the time of tests goes into compiling networks that hardly run; with these flags XLA needs
# a quarter of it.  Processes that tests start inherit them.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'
  ' --xla_cpu_parallel_codegen_split_count=1',
)

# A shell script that starts pytest in the background makes it ignore Ctrl-C, and whatever pytest
# starts inherits that; tests of interrupts need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_compilation_cache_dir', str(ROOT / '.jax_cache'))
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)

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


def pytest_collection_modifyitems(items):
  """Whole commands first: they take longest, and two processes of pytest should end together."""
  items.sort(key=lambda item: len(item.path.relative_to(ROOT).parts))


def pytest_collection_finish():
  """What is there stays, and little of what tracing makes is garbage: to look for it as often as by
  default takes a seventh of the time of tracing."""
  gc.freeze()
  gc.set_threshold(100_000, 50, 100)


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


def inputs(b=2, frames=4, seed=0):
  """Noisy clips of 8x8 pixels, their times, and texts of which the last token is masked."""
  rng = np.random.default_rng(seed)
  x = jnp.asarray(rng.normal(size=(b, frames, 8, 8, 3)), jnp.float32)
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
