"""What a sampler keeps, and where it begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from core.given import Given
from diffusion.process import Process
from diffusion.sampling import (
  FIRST_ORDER,
  SAMPLERS,
  SECOND_ORDER_SPACINGS,
  SPACINGS,
  THRESHOLDS,
  Source,
  make_sample,
  video_keys,
)

PROCESS = Process('cosine', 0.0, 'x0')
SHAPE = (3, 4, 6, 3)
COND, KEYS = Condition(jnp.zeros((2, 1, 1))), video_keys(0, jnp.arange(2))
RNG = np.random.default_rng(0)
VIDEO = jnp.asarray(RNG.uniform(-1, 1, (2, *SHAPE)), jnp.float32)
KNOWN = jnp.asarray(RNG.random((2, *SHAPE[:3], 1)) < 0.5, jnp.float32)
GIVEN = Given.of(VIDEO, KNOWN)


def same_as_noisy(xt, t, cond):
  """And as much again of a variance, for those who learned one."""
  return jnp.concatenate([jnp.tanh(xt), jnp.cos(xt)], -1)


def sample(denoiser, given=None, source=None, **options):
  options = dict(sampler='ddim', steps=4) | options
  return make_sample(PROCESS, **options)(denoiser, COND, SHAPE, KEYS, given, source)


@pytest.mark.parametrize('sampler', sorted(SAMPLERS))
@pytest.mark.parametrize('threshold', sorted(THRESHOLDS))
def test_what_is_given_comes_back_to_the_last_bit(sampler, threshold):
  made = sample(same_as_noisy, GIVEN, sampler=sampler, threshold=threshold)
  free = sample(same_as_noisy, sampler=sampler, threshold=threshold)
  known = np.broadcast_to(KNOWN == 1, made.shape)
  np.testing.assert_array_equal(np.asarray(made)[known], np.asarray(VIDEO)[known])
  np.testing.assert_allclose(np.asarray(made)[~known], np.asarray(free)[~known], atol=1e-5)


def test_what_is_given_is_seen_at_every_step():
  """By a denoiser that answers the mean of a frame: what is made goes where what is known is."""
  mean = lambda xt, t, cond: jnp.broadcast_to(xt.mean((2, 3, 4), keepdims=True), xt.shape)
  red = Given.of(0.8 * jnp.ones_like(VIDEO), KNOWN)
  made = sample(mean, red, steps=32)
  free = sample(mean, steps=32)
  assert np.abs(free).mean() < 0.3
  assert np.asarray(made)[np.broadcast_to(KNOWN == 0, made.shape)].mean() > 0.3


PAIRS = [
  (sampler, spacing)
  for sampler in sorted(SAMPLERS)
  for spacing in sorted(SPACINGS)
  if sampler in FIRST_ORDER or spacing in SECOND_ORDER_SPACINGS
]


@pytest.mark.parametrize(('sampler', 'spacing'), PAIRS)
def test_known_pixels_have_the_mean_and_deviation_of_their_time_at_every_step(sampler, spacing):
  """x_t of a known x_0 is N(alpha x_0, sigma^2), whatever the denoiser says of a variance."""
  seen, clean = [], 0.6

  def denoiser(xt, t, cond):
    jax.debug.callback(
      lambda *found: seen.append([x.item() for x in found]), t[0], xt.mean(), xt.std()
    )
    return jnp.concatenate([jnp.tanh(xt), jnp.ones_like(xt)], -1)  # of all, the largest variance

  shape = (2, 4, 48, 48, 3)
  given = Given.of(jnp.full(shape, clean), jnp.ones((*shape[:-1], 1)))
  make = make_sample(PROCESS, sampler=sampler, steps=40, spacing=spacing)
  jax.block_until_ready(make(denoiser, COND, shape[1:], KEYS, given))
  jax.effects_barrier()
  assert len(seen) == 40
  t, mean, std = np.array(seen).T
  alpha, sigma = np.cos(np.pi / 2 * t), np.sin(np.pi / 2 * t)
  # Of 55,296 pixels the deviation is known to 0.3%, the mean to 0.43% of that.
  np.testing.assert_allclose(std / sigma, 1, atol=0.015)
  np.testing.assert_allclose((mean - alpha * clean) / sigma, 0, atol=0.02)


@pytest.mark.parametrize('spacing', sorted(SPACINGS))
@pytest.mark.parametrize('strength', [0.25, 0.6, 1.0])
def test_a_source_is_noised_to_the_first_time_which_is_its_strength(spacing, strength):
  seen = []

  def denoiser(xt, t, cond):
    jax.debug.callback(lambda *found: seen.append(found), t[0], xt)
    return same_as_noisy(xt, t, cond)

  source = Source(VIDEO, jnp.asarray(strength))
  jax.block_until_ready(sample(denoiser, source=source, steps=10, spacing=spacing))
  jax.effects_barrier()
  times = np.sort([t for t, _ in seen])[::-1]
  assert times[0] == np.float32(strength)
  assert len(times) == 10
  assert (np.diff(times) < 0).all()
  assert times[-1] > 0
  ((_, xt),) = [found for found in seen if found[0] == times[0]]
  noise = (xt - np.cos(np.pi / 2 * strength) * VIDEO) / np.sin(np.pi / 2 * strength)
  first, _ = jax.vmap(jax.random.split, out_axes=1)(KEYS)
  np.testing.assert_allclose(
    noise, jax.vmap(lambda key: jax.random.normal(key, SHAPE))(first), atol=1e-4
  )


@pytest.mark.parametrize('spacing', ['even_times', 'leading'])
def test_a_sampler_of_second_order_is_refused_where_it_is_wrong(spacing):
  with pytest.raises(ValueError, match='second order') as error:
    make_sample(PROCESS, sampler='dpmpp_2m', steps=25, spacing=spacing)
  assert str(error.value) == (
    f'Got sampler=dpmpp_2m with spacing={spacing}, at which its second order is wrong; allowed are '
    '--spacing=even_angles (of super-resolution --ssr_spacing), or a sampler of first order: ddim, '
    'ddpm, ddpm_learned, ddpm_small.'
  )


def test_the_weaker_the_nearer_to_the_source():
  """With a denoiser that keeps what it sees, which is alpha times the source and noise."""

  def away(strength):
    made = sample(lambda xt, t, cond: xt, source=Source(VIDEO, jnp.asarray(strength)), steps=16)
    return np.abs(made - VIDEO).mean()

  near, middle, far = map(away, (0.01, 0.4, 0.99))
  assert near < 0.05 < middle < far


def test_at_full_strength_nothing_of_the_source_is_left():
  full = sample(same_as_noisy, source=Source(VIDEO, jnp.asarray(1.0)))
  np.testing.assert_allclose(full, sample(same_as_noisy), atol=1e-3)
