"""A step is the same on every mesh, and every device holds its part alone."""

import importlib

import jax
import numpy as np
import pytest

from core.params import cast_kernels, matches, merge, names, nest
from core.sharding import make_mesh, of_each, put_batch, replicated
from data.mixture import open_sources
from data.pipeline import batches
from pipelines.stages import open_stage
from stunet.inflate import TEMPORAL
from tests.conftest import SMALL
from text.encoder import open_encoder
from training.plan import initialise, lower_step, make_plan

STEPS = 5
ALONE = (('data', 1),)
MESHES = {
  '8x1x1': (('data', 8),),
  '1x8x1': (('fsdp', 8),),
  '1x1x8': (('time', 8),),
  '2x2x2': (('data', 2), ('fsdp', 2), ('time', 2)),
}
# Two levels, so that there is resampling in space and time, and as little else as can be.
MODEL = SMALL | {
  'channels': (8, 8),
  'down_units': (0, 0),
  'up_units': (1, 1),
  'attention': ('none', 'joint'),
  'temporal_strides': (1, 2),
  'temporal_attentions': (0, 1),
}
CHANGES = {
  'data.size': 8,
  'data.frames': 16,
  'loader.batch': 8,
  'text.width': 8,
  'shard_above': 64,
  **{f'model.{key}': value for key, value in MODEL.items()},
}


def config():
  c = importlib.import_module('configs.t2v').get_config('tiny')
  c.update_from_flattened_dict(CHANGES)
  return c


@pytest.fixture(scope='module')
def clips():
  c = config()
  data = batches(open_sources(**c.data), open_encoder(**c.text), seed=0, **c.loader)
  result = [next(data) for _ in range(STEPS)]
  data.close()
  return result


@pytest.fixture(scope='module')
def initial():
  """The state before the first step, and the frozen parameters."""
  plan = make_plan(config(), make_mesh(ALONE, jax.devices()[:1]), open_stage)
  state, frozen = initialise(plan, {}, jax.random.key(0))
  return jax.device_get((state, cast_kernels(frozen, plan.config.model.dtype)))


def test_a_parent_gives_what_it_has_and_the_rest_is_as_without_it(initial):
  plan = make_plan(config(), make_mesh(ALONE, jax.devices()[:1]), open_stage)
  without = names(merge(initial[0].params, initial[1]))
  image = {name: p + 1 for name, p in without.items() if not matches(name, TEMPORAL)}
  parent = jax.device_put(nest(image), replicated(plan.mesh))
  state, frozen = initialise(plan, parent, jax.random.key(0))
  grown = names(merge(state.params, frozen))
  assert 0 < len(image) < len(grown)
  for name, value in (without | image).items():
    np.testing.assert_array_equal(grown[name], value, err_msg=name)


def losses(axes, initial, clips):
  """Of so many steps on a mesh."""
  sizes = dict(axes).values()
  mesh = make_mesh(axes, jax.devices()[: int(np.prod(list(sizes)))])
  plan, key = (
    make_plan(config(), mesh, open_stage),
    jax.device_put(jax.random.key(1), replicated(mesh)),
  )
  shardings = jax.tree.map(lambda x: x.sharding, (plan.state, plan.frozen))
  state, frozen = jax.device_put(initial, shardings)
  lowered, _ = lower_step(plan, key, *plan.examples)
  step = lowered.compile()
  result = []
  for batch in clips:
    inputs = put_batch(batch, mesh) | {'stop': of_each(False, mesh)}
    state, metrics = step(state, frozen, inputs, key)
    result.append(float(metrics['loss']))
  return np.array(result)


def test_losses_are_the_same_on_every_mesh(initial, clips):
  want = losses(ALONE, initial, clips)
  for name, axes in MESHES.items():
    np.testing.assert_allclose(losses(axes, initial, clips), want, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize('n', [2, 4, 8])
def test_a_device_holds_its_part_of_the_state_alone(n):
  """Parameters, their average and the optimizer's memory of the demo model."""
  c = importlib.import_module('configs.t2v_masked').get_config('demo')
  c.update(shard_above=2**10, loader={'batch': n})  # it has few and small arrays
  state = make_plan(c, make_mesh((('fsdp', n),), jax.devices()[:n]), open_stage).state
  size = lambda shape, x: np.prod(shape) * x.dtype.itemsize
  leaves = jax.tree.leaves(state)
  stored = sum(size(x.sharding.shard_shape(x.shape), x) for x in leaves)
  assert stored <= 1.1 / n * sum(size(x.shape, x) for x in leaves)
