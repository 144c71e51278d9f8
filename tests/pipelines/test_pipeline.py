"""The one way to sample models, with networks small enough to know what it should do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ssr, t2v, t2v_masked
from core import video
from core.condition import Condition
from core.sharding import filled, make_mesh, over_batch
from diffusion.sampling import InitialVideo, video_keys
from pipelines import Pipeline
from pipelines.cascade import make_super_resolution
from pipelines.model import Model
from pipelines.stages import open_stage
from pipelines.text_to_video import make_text_to_video
from tests.conftest import SMALL
from tests.scripts import save

SIDE, FRAMES, STEPS = 8, 4, 3
AXES = {
  '1': (('data', 1),),
  '8': (('data', 8),),
  '2x2x2': (('data', 2), ('fsdp', 2), ('time', 2)),
}


def pull(params, xt, t, cond):
  """A network whose prediction depends on all that it gets, and in every frame on all frames."""
  text = cond.text.mean((1, 2)) + t
  low_res = 0 if cond.low_res is None else jax.image.resize(cond.low_res, xt.shape, 'nearest')
  return 0.3 * jnp.tanh(jnp.cumsum(xt, 1)) * text[:, None, None, None, None] + 0.4 * low_res


def config_of(module):
  config = module.get_config('tiny')
  config.data.update(size=SIDE, frames=FRAMES)
  config.model.update(SMALL)
  config.sampling.update(steps=STEPS)
  return config


def base(batch, on_step=None, traced=None):
  """A model with the network `pull`; `traced` takes a mark whenever it is compiled."""
  config = config_of(t2v)
  stage, shape = open_stage(config), (FRAMES, SIDE, SIDE, 3)

  def apply(*inputs):
    if traced is not None:
      traced.append(1)
    return pull(*inputs)

  options = config.sampling.to_dict() | {'on_step': on_step}
  generate = make_text_to_video(apply, stage.process, shape, **options)
  mesh = make_mesh((('data', batch), ('time', -1)), jax.devices()[:2])
  stage = dataclasses.replace(stage, generate=generate)
  return Model(config, stage, batch, over_batch(mesh)).with_params({'w': jnp.ones(())})


def alone(model, prompt, number, seed, **fields):
  """One video by the function of the stage, from its own key."""
  cond = model.encode([prompt]).replace(**fields)
  return np.asarray(model.stage.generate({}, cond, video_keys(seed, jnp.array([number]))))[0]


def same(got, want):
  assert got.dtype == np.uint8
  np.testing.assert_allclose(got, video.to_uint8(want).astype(int), atol=1)


@pytest.mark.parametrize('batch', [1, 2])
def test_each_video_is_what_it_is_alone_and_nothing_is_compiled_twice(batch):
  """Of three videos the last batch is filled up; what fills it is not returned."""
  steps, traced = [], []
  model = base(batch, steps.append, traced)
  pipeline, prompts, numbers = Pipeline(model), ['up', 'down', 'up'], [7, 2, 1]
  made = list(pipeline.generate(prompts, seed=4, numbers=numbers))
  assert {*steps} == set(range(STEPS))  # on two devices, too
  compiled = len(traced)
  again = list(pipeline.generate(prompts[1:], seed=4, numbers=numbers[1:]))
  assert len(traced) == compiled
  plain = base(1)
  for got, prompt, number in zip(made, prompts, numbers, strict=True):
    same(got, alone(plain, prompt, number, 4))
  np.testing.assert_array_equal(again, made[1:])
  assert np.abs(made[0].astype(int) - made[2]).max() > 10  # one prompt, two videos
  [unnumbered] = pipeline.generate(['up'])
  same(unnumbered, alone(plain, 'up', 0, 0))


def test_a_small_video_is_made_large():
  config = config_of(ssr)
  size, options = 2 * SIDE, config.sampling.to_dict() | {'window': FRAMES, 'overlap': 1}
  stage = open_stage(config)
  upscale = make_super_resolution(pull, stage.process, (size, size), **options)
  stage = dataclasses.replace(stage, generate=upscale)
  low = base(1)
  high = Model(config, stage, 1, low.sharding).with_params({})
  [got] = Pipeline(low, high).generate(['up'], seed=3, numbers=[5])
  assert got.shape == (FRAMES, size, size, 3)
  low_res = jnp.asarray(alone(low, 'up', 5, 3))[None]
  same(got, alone(high, 'up', 5, 3, low_res=low_res))


@pytest.mark.parametrize('axes', AXES.values(), ids=AXES)
@pytest.mark.parametrize('count', [1, 3, 8])
def test_a_model_on_the_mesh_of_a_run_makes_so_many_videos(axes, count):
  @jax.jit
  def generate(params, cond, keys):
    noise = jax.vmap(lambda key: jax.random.normal(key, (1, 2, 2, 3)))(keys)
    return noise + params['bias'] * cond.text.sum((1, 2))[:, None, None, None, None]

  mesh = make_mesh(axes, jax.devices()[: int(np.prod(list(dict(axes).values())))])
  config, params = config_of(t2v), {'bias': jnp.asarray(2.0)}
  stage = dataclasses.replace(open_stage(config), generate=generate)
  model = Model(config, stage, filled(8, mesh), over_batch(mesh), params)
  text = jnp.arange(count * 2.0).reshape(count, 1, 2)
  cond, keys = Condition(text, jnp.ones((count, 1), bool)), video_keys(0, jnp.arange(count))
  got = list(model.generate(cond, keys))
  np.testing.assert_allclose(got, generate(params, cond, keys), rtol=1e-6)
  _, (_, placed, _) = model.compile(cond, keys)
  # No device makes more than its part.
  n = mesh.size // mesh.shape['time']
  assert {s.data.shape[0] for s in placed.text.addressable_shards} == {8 // n}
  with pytest.raises(ValueError, match='Got 9 videos to make at once; allowed are 1 to 8'):
    model.generate(cond, video_keys(0, jnp.arange(9)))


def test_trained_models_are_loaded_and_given_what_they_are_conditioned_on(tmp_path):
  """Three lines in a notebook; a masked video comes back where its mask is 1."""
  masked, upscaling = config_of(t2v_masked), config_of(ssr)
  save(tmp_path / 't2v', masked)
  save(tmp_path / 'ssr', upscaling)
  pipeline = Pipeline.load(tmp_path / 't2v', tmp_path / 'ssr', steps=1, frames=2)
  side = SIDE * upscaling.degrade.factor
  clip = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
  mask = np.zeros((1, 2, side, side, 1), np.float32)
  mask[:, 0] = 1
  condition = Condition.from_mask(jnp.asarray(video.to_float(clip))[None], jnp.asarray(mask))
  [got] = pipeline.generate(['a red ring'], condition=condition)
  assert got.shape == (2, side, side, 3) == (2, *pipeline.size, 3)
  np.testing.assert_allclose(got[0], clip[0].astype(int), atol=1)
  start = InitialVideo(jnp.zeros((1, 2, SIDE, SIDE, 3)), jnp.asarray(0.5))
  [other] = pipeline.generate(['a red ring'], condition=condition, initial_video=start)
  assert (other[1] != got[1]).any()
  with pytest.raises(ValueError, match='Got a condition with low_res; allowed are mask, masked_v'):
    pipeline.generate(['a red ring'], condition=Condition(low_res=jnp.zeros(())))
