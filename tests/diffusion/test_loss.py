import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from diffusion.loss import less_noisy, squared_error, times, weights
from diffusion.process import Process


def example():
  keys = jax.random.split(jax.random.key(0), 3)
  x0, eps = (jax.random.normal(key, (4, 2, 3, 3, 3)) for key in keys[:2])
  return x0, jax.random.uniform(keys[2], (4,)), eps


@pytest.mark.parametrize('prediction', ['eps', 'v', 'x0'])
def test_is_the_mean_square_of_each_example(prediction):
  process, (x0, t, eps) = Process(prediction=prediction), example()
  wrong_by = jnp.float32([0, 1, 2, 3]).reshape(4, 1, 1, 1, 1)
  loss = squared_error(process, process.target(x0, t, eps) + wrong_by, x0, t, eps)
  np.testing.assert_allclose(loss, [0, 1, 4, 9], rtol=1e-5)


def test_a_learned_variance_does_not_count():
  process, (x0, t, eps) = Process(), example()
  predicted = jnp.concatenate([process.target(x0, t, eps) + 1, jnp.full_like(x0, jnp.nan)], -1)
  np.testing.assert_allclose(squared_error(process, predicted, x0, t, eps), 1, rtol=1e-5)


def test_is_float32():
  process, (x0, t, eps) = Process(prediction='eps'), example()
  loss = squared_error(process, jnp.zeros_like(x0, jnp.bfloat16), x0, t, eps)
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, jnp.mean(eps**2, axis=(1, 2, 3, 4)), rtol=1e-6)


@pytest.mark.parametrize('error', ['x0', 'v', 'eps'])
@pytest.mark.parametrize('prediction', ['x0', 'v', 'eps'])
def test_a_weighted_loss_is_the_error_of_what_it_is_named_after(prediction, error):
  """Whatever the network predicts: the same x0 has the same loss."""
  process, (x0, t, eps) = Process(prediction=prediction), example()
  other = Process(prediction=error)
  xt, wrong = process.corrupt(x0, t, eps), x0 + 0.1
  wrong_eps = process.eps_from(xt, t, wrong)
  predicted = process.target(wrong, t, wrong_eps)  # x_t = alpha wrong + sigma wrong_eps
  loss = weights(process, error)(t) * squared_error(process, predicted, x0, t, eps)
  known = squared_error(other, other.target(wrong, t, wrong_eps), x0, t, eps)
  np.testing.assert_allclose(loss, known, rtol=1e-3)


def test_the_largest_weight_is_that_of_min_snr():
  """Hang et al., 2023, Sec. 3.4: min(SNR, gamma) for x0, and min(SNR, gamma) / SNR for eps."""
  t = jnp.linspace(0.01, 0.99, 9)
  snr = jnp.exp(Process().log_snr(t))
  for prediction, known in (('x0', jnp.minimum(snr, 5)), ('eps', jnp.minimum(snr, 5) / snr)):
    got = weights(Process(prediction=prediction), error='eps', largest=5.0)(t)
    np.testing.assert_allclose(got, known, rtol=1e-5)
  np.testing.assert_array_equal(weights(Process())(t), np.ones(9))


def test_an_error_that_is_not_known_is_refused():
  with pytest.raises(UserError, match='allowed are x0, v, eps, and none'):
    weights(Process(), error='epsilon')


@pytest.mark.parametrize('schedule', ['cosine', 'linear'])
def test_the_log_snr_of_drawn_times_is_normal(schedule):
  process = Process(schedule, shift=-1.0)
  u = (jnp.arange(4000) + 0.5) / 4000
  log_snr = process.log_snr(times(process, mean=-2.0, std=1.5)(u))
  normal = np.random.default_rng(0).normal(size=200_000)
  normal = -2 + 1.5 * normal[np.abs(normal) < 3]
  q = np.linspace(0.02, 0.98, 25)
  np.testing.assert_allclose(np.quantile(log_snr, q), np.quantile(normal, q), atol=0.03)
  assert log_snr.min() > -6.6
  assert log_snr.max() < 2.6


def test_times_of_beta_are_its_quantiles():
  u = jnp.linspace(0, 0.99, 8)
  np.testing.assert_allclose(times(Process(), high_noise=2.0)(u) ** 2, u, atol=1e-6)


def test_half_of_the_inputs_are_less_noisy_than_at_the_time_of_the_network():
  process = Process(shift=-4.0, prediction='x0')
  t = process.time(jnp.full(101, -3.0))
  of_inputs = less_noisy(process, 4.0)(jnp.linspace(0, 1, 101), t)
  got = process.log_snr(of_inputs)
  np.testing.assert_allclose(got[:51], -3.0, atol=1e-3)
  np.testing.assert_allclose(got[50:], np.linspace(-3, 1, 51), atol=2e-3)


def test_v_of_an_input_of_another_time_is_refused():
  with pytest.raises(UserError, match=r'less_noisy needs schedule.prediction=x0, and got v'):
    less_noisy(Process(prediction='v'), 4.0)


def test_by_default_the_network_is_conditioned_on_the_time_of_its_input():
  t = jnp.linspace(0, 1, 5)
  np.testing.assert_array_equal(less_noisy(Process())(t, t), t)
