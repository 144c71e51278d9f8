"""Super-resolution with networks that are small enough to know the right video."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core import video
from core.condition import Condition
from core.sharding import make_mesh
from diffusion.process import Process, per_example
from diffusion.sampling import SAMPLERS, video_keys
from pipelines import cascade
from pipelines.cascade import (
  PIECE,
  feathered,
  make_super_resolution,
  to_host,
  window_mesh,
)
from ssr.degrade import upsample
from ssr.model import with_upsampled_low_res
from stunet.unet import STUNet
from tests.conftest import SMALL
from tests.oracles import random_params

MESH = (('data', -1), ('fsdp', 1))
PROCESS = Process(prediction='x0')
OPTIONS = dict(
  sampler='ddim', steps=3, guidance=1.0, window=4, overlap=1, at_once=1, aug_level=0.0
)  # fmt: skip


def low_res(*values, frames=10, h=2, w=4):
  """Low-resolution videos of noise, each seeded by its value, and texts that equal the value."""
  draw = lambda value: np.random.default_rng(int(100 * value)).uniform(-1, 1, (frames, h, w, 3))
  text = jnp.asarray(values, jnp.float32)[:, None, None] * jnp.ones((1, 2, 4))
  return Condition(text, low_res=jnp.asarray(np.stack([*map(draw, values)]), jnp.float32))


def make(apply, size=(4, 8), **options):
  return make_super_resolution(with_upsampled_low_res(apply), PROCESS, size, **OPTIONS | options)


def upscale(cond, apply, numbers=None, seed=0, **options):
  numbers = jnp.arange(len(cond.text)) if numbers is None else jnp.asarray(numbers)
  return np.asarray(make(apply, **options)({}, cond, video_keys(seed, numbers)))


def seen(params, xt, t, cond):
  """A network that predicts the low-resolution video that it gets."""
  return cond.low_res + 0 * xt


def pull(params, xt, t, cond):
  """A network whose prediction depends on every input, and in every frame on the whole window."""
  conditions = cond.text.mean((1, 2)) + cond.noise_level
  return 0.4 * cond.low_res + 0.3 * jnp.tanh(jnp.cumsum(xt, 1)) * per_example(conditions + t, xt)


@pytest.mark.parametrize(('name', 'guidance'), [('ddim', 1.0), ('ddpm', 4.0), ('dpmpp_2m', 4.0)])
def test_the_network_gets_the_low_resolution_video_upsampled(name, guidance):
  cond = low_res(0.3, 0.5)
  got = upscale(cond, seen, sampler=name, guidance=guidance)
  np.testing.assert_allclose(got, upsample(cond.low_res, 4, 8), atol=1e-5)


def test_the_low_resolution_video_is_noised_once_to_the_level_of_the_condition():
  """At a level of 1/3 the deviation of noise is sin(pi / 6).  Windows which overlap have the same:
  it would be less in the mean of several.
  """
  cond = low_res(0.1, frames=16, h=16, w=16)
  cond = cond.replace(low_res=jnp.zeros_like(cond.low_res))
  options = dict(size=(16, 16), window=4, overlap=3, aug_level=1 / 3)
  noise = upscale(cond, lambda *given: 0.2 * seen(*given), **options)
  np.testing.assert_allclose(noise.std((0, 2, 3, 4)), 0.2 / 2, rtol=0.12)  # five deviations
  np.testing.assert_allclose(noise.mean(), 0, atol=0.005)
  other = upscale(cond, lambda *given: 0.2 * seen(*given), numbers=[1], **options)
  assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.05
  level = upscale(
    cond, lambda p, xt, t, cond: 0 * xt + per_example(cond.noise_level, xt), **options
  )
  np.testing.assert_allclose(level, 1 / 3, rtol=1e-5)


def test_a_video_does_not_depend_on_its_batch():
  values, options = (0.3, 0.5, 0.3), dict(sampler='ddpm', aug_level=0.4, guidance=2.0)
  together = upscale(low_res(*values), pull, **options)
  for i, value in enumerate(values):
    alone = upscale(low_res(value), pull, numbers=[i], **options)[0]
    np.testing.assert_allclose(together[i], alone, atol=1e-5)
  assert np.abs(together[0] - together[2]).max() > 0.01  # one low-resolution video


@pytest.mark.parametrize('axes', [MESH, (('data', 2), ('time', 4))])
def test_many_devices_make_the_video_of_one(axes):
  """By a real network, and of 5 windows, so that some devices have none, or a part of each."""
  model = STUNet(**SMALL | {'noise_level_embedding': True, 'attention': ('cross',)})
  apply = lambda params, *inputs: model.apply({'params': params}, *inputs)
  cond, keys = low_res(0.3, frames=16, h=4, w=4), video_keys(0, jnp.arange(1))
  x, level = jnp.zeros((1, 16, 8, 8, 3)), jnp.ones(1)
  init = with_upsampled_low_res(model.init)
  shapes = jax.eval_shape(init, jax.random.key(0), x, level, cond.replace(noise_level=level))
  params = random_params(shapes['params'])

  def on(mesh):
    options = dict(guidance=2.0, aug_level=0.4, mesh=mesh, sampler='dpmpp_2m', steps=2)
    with jax.set_mesh(mesh):
      return np.asarray(make(apply, (8, 8), **options)(params, cond, keys))

  one, many = on(make_mesh((('data', 1),), jax.devices()[:1])), on(make_mesh(axes))
  assert np.std(one) > 0.1
  np.testing.assert_allclose(many, one, atol=1e-5)


@pytest.mark.parametrize(('frames', 'groups'), [(80, 8), (26, 4), (20, 1), (8, 1), (5, 1)])
def test_windows_are_spread_over_as_many_groups_of_devices_as_are_hardly_idle(frames, groups):
  mesh = window_mesh(frames, window=8, overlap=2, devices=jax.devices())
  assert dict(mesh.shape) == {'data': groups, 'fsdp': 1, 'time': 8 // groups}


@pytest.mark.parametrize('frames', [1, PIECE - 3, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE - 3])
def test_all_pixels_reach_the_host_by_few_frames_at_a_time(frames, monkeypatch):
  large = jnp.asarray(np.random.default_rng(0).uniform(-1.1, 1.1, (frames, 4, 6, 3)), jnp.float32)
  want, lengths, to_uint8 = video.to_uint8(np.asarray(large)), [], video.to_uint8
  monkeypatch.setattr(
    cascade.video, 'to_uint8', lambda piece: lengths.append(len(piece)) or to_uint8(piece)
  )
  got = to_host(large)
  assert got.dtype == np.uint8
  np.testing.assert_array_equal(got, want)
  assert {*lengths} == {min(PIECE, frames)}  # one shape, compiled once
  assert len(lengths) == -(-frames // PIECE)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(aug_level=1.5), 'Got an aug_level of 1.5; allowed is 0 to 1.'),
    (dict(aug_level=-0.1), 'Got an aug_level of -0.1; allowed is 0 to 1.'),
    (
      dict(sampler='euler'),
      f"Unknown sampler: 'euler'.  Allowed: {', '.join(sorted(SAMPLERS))}.",
    ),
  ],
)
def test_what_is_not_allowed_is_named(options, message):
  with pytest.raises(ValueError, match='llowed') as error:
    make(seen, **options)
  assert str(error.value) == message


SIZE = '; allowed is a size that goes into it as often down as across.'


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      dict(window=4, overlap=4),
      'Got an overlap of 4 frames; allowed is 0 to 3, as a window has 4.',
    ),
    (dict(window=0, overlap=0), 'Got a window of 0 frames; allowed is 1 or more.'),
    (dict(at_once=0), 'Got 0 windows at once; allowed is 1 or more.'),
    (
      dict(window=16, overlap=12),
      'Got an overlap of 12 frames in a video of 10; allowed is 0 to 9.',
    ),
    (dict(size=(5, 8)), f'Got frames of 2x4 pixels to make 5x8 of{SIZE}'),
    (dict(size=(4, 4)), f'Got frames of 2x4 pixels to make 4x4 of{SIZE}'),
    (dict(size=(4, 12)), f'Got frames of 2x4 pixels to make 4x12 of{SIZE}'),
  ],
)
def test_what_a_video_does_not_allow_is_named(options, message):
  with pytest.raises(ValueError, match='Got') as error:
    upscale(low_res(0.3), seen, **options)
  assert str(error.value) == message


def given(h=24, w=24):
  """A frame of a single colour, given except for a square in its middle."""
  mask = jnp.ones((1, 2, h, w, 1)).at[:, :, 6:18, 6:18].set(0)
  return Condition.from_mask(jnp.full((1, 2, h, w, 3), 0.5), mask)


def test_given_pixels_fade_into_generated_ones():
  hard, soft = given(), feathered(given(), 1.5)
  mask = np.asarray(soft.mask[0, 0, 12, :, 0])
  np.testing.assert_array_equal(mask[:6], 1)
  assert (np.diff(mask[5:12]) <= 0).all()
  assert 0 < mask[7] < 1
  np.testing.assert_array_equal(mask[11:13], 0)
  np.testing.assert_array_equal(np.where(hard.mask == 1, soft.masked_video, 0), hard.masked_video)
  goes_on = 0.5 * np.repeat(soft.mask, 3, -1)  # in its own colour
  np.testing.assert_allclose(soft.masked_video, goes_on, atol=1e-5)


def test_a_large_video_keeps_the_given_pixels():
  cond, rng = low_res(0.3), np.random.default_rng(1)
  mask = jnp.asarray(rng.random((1, 10, 4, 8, 1)) < 0.5, jnp.float32)
  large = jnp.asarray(rng.uniform(-1, 1, (1, 10, 4, 8, 3)), jnp.float32)
  keys = video_keys(0, jnp.arange(1))
  masked = Condition.from_mask(large, mask)
  cond = masked.replace(text=cond.text, low_res=cond.low_res)
  made = np.asarray(make(pull)({}, cond, keys))
  at = np.broadcast_to(mask == 1, made.shape)
  np.testing.assert_array_equal(made[at], np.asarray(large)[at])
  assert np.std(made[~at]) > 0
