"""What a sampler keeps, and where it begins."""

import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from core.given import Given
from diffusion.process import Process, per_example
from pipelines.sampling import SAMPLERS, THRESHOLDS, Source, make_sample, video_keys

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


@pytest.mark.parametrize('spacing', ['even_angles', 'even_times'])
def test_from_a_source_all_steps_are_below_its_strength(spacing):
  """A denoiser that answers the time: the last step's answer is what is left, and is above 0."""
  seen = []

  def denoiser(xt, t, cond):
    seen.append(t)
    return per_example(t, xt) + 0 * xt

  source = Source(VIDEO, jnp.asarray(0.5))
  last = sample(denoiser, source=source, steps=5, spacing='even_times')
  np.testing.assert_allclose(last, 0.1, atol=1e-5)
  assert len(seen) >= 1
  begun = sample(denoiser, source=source, steps=1, spacing=spacing)
  np.testing.assert_allclose(begun, 0.5, atol=1e-5)


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
