"""Given pixels and initial videos in sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from diffusion.process import Process
from diffusion.sampling import (
  FIRST_ORDER,
  SAMPLERS,
  SECOND_ORDER_SPACINGS,
  SPACINGS,
  THRESHOLDS,
  InitialVideo,
  make_sample,
  video_keys,
)

PROCESS = Process('cosine', 0.0, 'x0')
SHAPE = (3, 4, 6, 3)
COND, KEYS = Condition(jnp.zeros((2, 1, 1))), video_keys(0, jnp.arange(2))
RNG = np.random.default_rng(0)
VIDEO = jnp.asarray(RNG.uniform(-1, 1, (2, *SHAPE)), jnp.float32)
MASK = jnp.asarray(RNG.random((2, *SHAPE[:3], 1)) < 0.5, jnp.float32)
MASKED = COND.replace(masked_video=VIDEO * MASK, mask=MASK)


def same_as_noisy(xt, t, cond):
  """The second half of the channels is for samplers that read a learned variance."""
  return jnp.concatenate([jnp.tanh(xt), jnp.cos(xt)], -1)


def sample(denoiser, cond=COND, initial_video=None, **options):
  options = dict(sampler='ddim', steps=4) | options
  return make_sample(PROCESS, **options)(denoiser, cond, SHAPE, KEYS, initial_video)


@pytest.mark.parametrize('sampler', sorted(SAMPLERS))
@pytest.mark.parametrize('threshold', sorted(THRESHOLDS))
def test_given_pixels_come_back_with_the_same_bits(sampler, threshold):
  made = sample(same_as_noisy, MASKED, sampler=sampler, threshold=threshold)
  free = sample(same_as_noisy, sampler=sampler, threshold=threshold)
  given = np.broadcast_to(MASK == 1, made.shape)
  np.testing.assert_array_equal(np.asarray(made)[given], np.asarray(VIDEO)[given])
  np.testing.assert_allclose(np.asarray(made)[~given], np.asarray(free)[~given], atol=1e-5)


def test_the_denoiser_sees_given_pixels_at_every_step():
  """The denoiser returns the mean of a frame, so that generated pixels follow the given ones."""
  mean = lambda xt, t, cond: jnp.broadcast_to(xt.mean((2, 3, 4), keepdims=True), xt.shape)
  red = MASKED.replace(masked_video=0.8 * jnp.ones_like(VIDEO) * MASK)
  made = sample(mean, red, steps=32)
  free = sample(mean, steps=32)
  assert np.abs(free).mean() < 0.3
  assert np.asarray(made)[np.broadcast_to(MASK == 0, made.shape)].mean() > 0.3


PAIRS = [
  (sampler, spacing)
  for sampler in sorted(SAMPLERS)
  for spacing in sorted(SPACINGS)
  if sampler in FIRST_ORDER or spacing in SECOND_ORDER_SPACINGS
]


@pytest.mark.parametrize(('sampler', 'spacing'), PAIRS)
def test_given_pixels_have_the_mean_and_deviation_of_their_time_at_every_step(sampler, spacing):
  """x_t of a given x_0 is N(alpha x_0, sigma^2), whatever variance the denoiser predicts."""
  seen, clean = [], 0.6

  def denoiser(xt, t, cond):
    jax.debug.callback(
      lambda *values: seen.append([x.item() for x in values]), t[0], xt.mean(), xt.std()
    )
    return jnp.concatenate([jnp.tanh(xt), jnp.ones_like(xt)], -1)  # of all, the largest variance

  shape = (2, 4, 48, 48, 3)
  cond = Condition.from_mask(jnp.full(shape, clean), jnp.ones((*shape[:-1], 1)))
  make = make_sample(PROCESS, sampler=sampler, steps=40, spacing=spacing)
  jax.block_until_ready(make(denoiser, cond, shape[1:], KEYS))
  jax.effects_barrier()
  assert len(seen) == 40
  t, mean, std = np.array(seen).T
  alpha, sigma = np.cos(np.pi / 2 * t), np.sin(np.pi / 2 * t)
  # Of 55,296 pixels the deviation is known to 0.3%, the mean to 0.43% of that.
  np.testing.assert_allclose(std / sigma, 1, atol=0.015)
  np.testing.assert_allclose((mean - alpha * clean) / sigma, 0, atol=0.02)


@pytest.mark.parametrize('spacing', sorted(SPACINGS))
@pytest.mark.parametrize('strength', [0.25, 0.6, 1.0])
def test_an_initial_video_is_noised_up_to_the_first_time_which_is_its_strength(spacing, strength):
  seen = []

  def denoiser(xt, t, cond):
    jax.debug.callback(lambda *values: seen.append(values), t[0], xt)
    return same_as_noisy(xt, t, cond)

  initial_video = InitialVideo(VIDEO, jnp.asarray(strength))
  jax.block_until_ready(sample(denoiser, initial_video=initial_video, steps=10, spacing=spacing))
  jax.effects_barrier()
  times = np.sort([t for t, _ in seen])[::-1]
  assert times[0] == np.float32(strength)
  assert len(times) == 10
  assert (np.diff(times) < 0).all()
  assert times[-1] > 0
  ((_, xt),) = [values for values in seen if values[0] == times[0]]
  noise = (xt - np.cos(np.pi / 2 * strength) * VIDEO) / np.sin(np.pi / 2 * strength)
  first, _ = jax.vmap(jax.random.split, out_axes=1)(KEYS)
  np.testing.assert_allclose(
    noise, jax.vmap(lambda key: jax.random.normal(key, SHAPE))(first), atol=1e-4
  )


@pytest.mark.parametrize('spacing', ['even_times', 'leading', 'leading_sd'])
def test_a_sampler_of_second_order_is_refused_where_it_is_wrong(spacing):
  with pytest.raises(ValueError, match='second order') as error:
    make_sample(PROCESS, sampler='dpmpp_2m', steps=25, spacing=spacing)
  assert str(error.value) == (
    f'Got sampler=dpmpp_2m with spacing={spacing}, at which its second order is wrong; allowed are '
    '--spacing=even_angles (of super-resolution --ssr_spacing), or a sampler of first order: ddim, '
    'ddpm, ddpm_learned, ddpm_small.'
  )


def test_a_lower_strength_stays_nearer_to_the_initial_video():
  """The denoiser returns its input, which is alpha times the initial video, and noise."""

  def away(strength):
    initial_video = InitialVideo(VIDEO, jnp.asarray(strength))
    made = sample(lambda xt, t, cond: xt, initial_video=initial_video, steps=16)
    return np.abs(made - VIDEO).mean()

  near, middle, far = map(away, (0.01, 0.4, 0.99))
  assert near < 0.05 < middle < far


def test_at_full_strength_nothing_of_the_initial_video_is_left():
  full = sample(same_as_noisy, initial_video=InitialVideo(VIDEO, jnp.asarray(1.0)))
  np.testing.assert_allclose(full, sample(same_as_noisy), atol=1e-3)
