"""The network of super-resolution: at initialisation, in training, and on larger frames."""

import functools
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from einops import repeat

from configs import ssr, ssr_image
from core.params import names, nest, partition
from diffusion.process import Process
from pipelines.stages import open_stage
from ssr.degrade import make_degrade, upsample
from ssr.model import adding_low_res, with_upsampled_low_res
from stunet.inflate import TEMPORAL, inflate
from stunet.unet import STUNet
from tests.conftest import SMALL, TINY, inputs
from tests.oracles import fresh, random_params, relative_error
from training.state import State
from training.step import make_step

ARRANGEMENT = {'noise_level_embedding': True, 'resample': 'conv'}
KEY = jax.random.key(0)


def with_low_res(x, cond):
  """The condition with a low-resolution video of half the size, and its noise levels."""
  b, t, h, w, _ = x.shape
  small = np.random.default_rng(1).normal(size=(b, t, h // 2, w // 2, 3))
  return cond.replace(
    low_res=jnp.asarray(small, jnp.float32), noise_level=jnp.linspace(0.1, 0.4, b)
  )


def shapes_of(model, *inputs):
  return jax.eval_shape(with_upsampled_low_res(model.init), KEY, *inputs)['params']


def compiled(model, params):
  return jax.jit(functools.partial(with_upsampled_low_res(model.apply), {'params': params}))


def test_a_network_gets_the_low_resolution_video_at_the_size_of_the_large_one():
  x, t, cond = inputs()
  cond = with_low_res(x, cond)
  params, *got = with_upsampled_low_res(lambda *args: args)('params', x, t, cond)
  large = got[2].low_res
  assert params == 'params'
  assert large.shape == x.shape
  np.testing.assert_array_equal(large, upsample(cond.low_res, 8, 8))
  same = (x, t, cond.replace(low_res=large))
  jax.tree.map(np.testing.assert_array_equal, tuple(got), same)


def test_a_network_may_predict_the_difference_to_the_upsampled_video():
  x, t, cond = inputs()
  cond = with_low_res(x, cond)
  up = upsample(cond.low_res, 8, 8)
  zero = adding_low_res(lambda params, x, t, cond: 0 * x)
  np.testing.assert_array_equal(zero({}, x, t, cond), up)
  identity = adding_low_res(lambda params, x, t, cond: x - cond.low_res)
  np.testing.assert_allclose(identity({}, x, t, cond), x, atol=1e-6)


def test_a_residual_needs_a_prediction_of_the_clean_video():
  config = ssr.get_config('demo')
  config.schedule.prediction = 'v'
  with pytest.raises(ValueError, match='A residual is of x0, but the prediction is v'):
    open_stage(config)


@functools.cache
def static():
  """A static clip of 4 frames, the newly inflated model, and the output of the image model."""
  options = TINY | ARRANGEMENT | {'attention': ('none', 'cross')}
  image, video = STUNet(**options, temporal=False), STUNet(**options)
  x, t, cond = inputs(frames=1)
  cond = with_low_res(x, cond)
  frames = lambda a: repeat(a, 'b 1 h w c -> b t h w c', t=4)
  clip = frames(x), t, cond.replace(low_res=frames(cond.low_res))
  params = random_params(shapes_of(image, x, t, cond))
  large = clip[2].replace(low_res=upsample(clip[2].low_res, 8, 8))
  inserted = fresh(video, *clip[:2], large, select=lambda params: partition(params, TEMPORAL)[0])
  target = random_params(shapes_of(video, *clip), seed=1)
  inflated = inflate(params, nest(names(target) | names(inserted)))
  return clip, compiled(video, inflated), compiled(image, params)(x, t, cond)


def test_every_frame_of_a_static_clip_is_the_image_models_output():
  clip, video, want = static()
  got = video(*clip)
  assert got.shape == clip[0].shape
  for k in range(4):
    assert relative_error(got[:, k], want[:, 0]) <= 1e-5


def test_the_output_depends_on_the_low_resolution_video_and_its_noise_level():
  (x, t, cond), video, want = static()
  for other in (
    cond.replace(low_res=-cond.low_res),
    cond.replace(noise_level=cond.noise_level + 0.1),
  ):
    assert relative_error(video(x, t, other)[:, 0], want[:, 0]) > 1e-2


def training(trainable):
  """A step of a small model, its state, the frozen parameters and a batch."""
  x, t, cond = inputs(b=2, frames=2)
  model = STUNet(**SMALL | ARRANGEMENT | {'attention': ('cross',)})
  params, frozen = partition(
    random_params(shapes_of(model, x, t, with_low_res(x, cond))), trainable
  )
  tx = optax.adam(1e-3)
  step = make_step(
    lambda params, *inputs: with_upsampled_low_res(model.apply)({'params': params}, *inputs),
    Process(prediction='x0'),
    tx,
    steps=100,
    ema_decay=0.99,
    drop_text=0.1,
    accumulate=1,
    make_condition=make_degrade(factor=2, level=0.5, blur=0.5),
  )
  video = np.random.default_rng(0).integers(0, 256, x.shape, np.uint8)
  batch = {'video': jnp.asarray(video), 'text': cond.text, 'text_mask': cond.text_mask}
  return step, State.create(params, tx), frozen, batch


def test_a_step_changes_the_temporal_parameters_and_leaves_the_others_their_bits():
  step, state, frozen, batch = training(TEMPORAL)
  before = {name: np.array(p) for name, p in names(frozen).items()}
  after, metrics = jax.jit(step)(state, frozen, batch, KEY)
  assert np.isfinite(metrics['loss'])
  new, old = names(after.params), names(state.params)
  moments = (names(moment) for moment in after.opt[0][1:])
  for tree in (new, names(after.ema), *moments):
    assert tree.keys() == old.keys()
  assert all('temporal' in name for name in old)
  for name in old:
    assert not np.array_equal(new[name], old[name]), name
  assert not any('temporal' in name for name in before)
  for name, bits in before.items():
    np.testing.assert_array_equal(names(frozen)[name], bits, err_msg=name)


def test_the_state_holds_temporal_names_alone():
  _, state, _, _ = training(TEMPORAL)
  paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
  arrays = [path for path in paths if re.search('kernel|bias|scale', path)]
  assert {path.split('[')[0] for path in arrays} == {'.params', '.ema', '.opt'}
  assert all('temporal' in path for path in arrays)
  assert len(arrays) == 4 * len(jax.tree.leaves(state.params))  # with both moments


@pytest.mark.parametrize(('trainable', 'computed'), [(TEMPORAL, False), (('.*',), True)])
def test_no_gradient_of_frozen_parameters_is_computed(trainable, computed):
  """No other array has the shape of the first kernel."""
  step, state, frozen, batch = training(trainable)
  program = str(jax.make_jaxpr(step)(state, frozen, batch, KEY))
  assert 'f32[3,3,6,8]' in program
  assert bool(re.search(r':f32\[3,3,6,8\] = ', program)) == computed


STAGES = [(scale, 'ssr_image') for scale in ssr_image.SCALES] + [
  (scale, 'ssr') for scale in ssr.SCALES
]
ATTENDING = [pair for pair in STAGES if pair[0].startswith('if_')]


@pytest.mark.parametrize(('scale', 'stage'), ATTENDING)
def test_training_is_on_whole_frames_where_pixels_attend_to_one_another(scale, stage):
  config = importlib.import_module(f'configs.{stage}').get_config(scale)
  assert 'joint' in config.model.attention
  assert config.data.size == config.data.shorter_side
  assert config.model.noise_level_embedding


@pytest.mark.parametrize(('scale', 'stage'), sorted({*STAGES} - {*ATTENDING}))
def test_no_pixel_attends_to_another_of_its_frame(scale, stage):
  """So a whole frame is like a larger crop, except for the statistics of norms."""
  config = importlib.import_module(f'configs.{stage}').get_config(scale)
  assert set(config.model.attention) == {'none', 'cross'}
  assert config.model.resample == 'conv'
  assert config.model.noise_level_embedding
  assert config.data.size < config.data.shorter_side


def test_parameters_of_crops_fit_whole_frames():
  config = ssr.get_config('demo')
  d, stage = config.data, open_stage(config)

  def examples(height, width):
    x = jax.ShapeDtypeStruct((1, d.frames, height, width, 3), jnp.float32)
    text = jax.ShapeDtypeStruct((1, config.text.tokens, config.text.width), jnp.float32)
    batch = {'text': text, 'text_mask': jax.ShapeDtypeStruct(text.shape[:2], bool)}
    cond = jax.eval_shape(stage.make_condition, KEY, x, batch)
    return x, jax.ShapeDtypeStruct((1,), jnp.float32), cond

  params = jax.eval_shape(stage.init, KEY, *examples(d.size, d.size))
  whole = examples(d.shorter_side, 2 * d.shorter_side)
  assert jax.eval_shape(stage.apply, params, *whole).shape == whole[0].shape
