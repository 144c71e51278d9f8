import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.process import Process

SCHEDULES = ('cosine', 'discrete_cosine', 'linear', 'scaled_linear', 'scaled_linear_zero_snr')
PREDICTIONS = ('eps', 'v', 'x0')
EVERYWHERE = jnp.linspace(0.0, 1.0, 41)


def draws(shape=(41, 2, 3, 3, 2)):
  return [jax.random.normal(key, shape) for key in jax.random.split(jax.random.key(0))]


def test_unknown_names_are_refused():
  allowed = rf'Allowed: {", ".join(SCHEDULES)}\.$'
  with pytest.raises(ValueError, match=rf"^Unknown schedule: 'cosin'\.  {allowed}"):
    Process(schedule='cosin')
  with pytest.raises(ValueError, match=r"^Unknown prediction: 'noise'\.  Allowed: eps, v, x0\.$"):
    Process(prediction='noise')


def test_is_data():
  assert Process('cosine', shift=-2.0) == Process('cosine', shift=-2.0)
  assert len({Process(), Process(), Process(shift=1.0)}) == 2


def test_cosine_is_its_formula():
  t = np.float32([1e-5, 1e-3, 0.1, 0.25, 0.5, 0.9, 0.999, 0.9999])
  known = -2 * np.log(np.tan(np.pi / 2 * t.astype(np.float64)))
  np.testing.assert_allclose(Process('cosine').log_snr(jnp.asarray(t)), known, rtol=1e-6, atol=1e-6)
  shifted = Process('cosine', shift=-1.5).log_snr(jnp.asarray(t))
  np.testing.assert_allclose(shifted, known - 1.5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('schedule', ['linear', 'discrete_cosine', 'scaled_linear'])
def test_discrete_schedules_are_products_of_their_betas(schedule):
  if schedule == 'linear':
    betas = np.linspace(1e-4, 0.02, 1000)
  elif schedule == 'scaled_linear':
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
  else:
    cos2 = [np.cos((i / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2 for i in range(1001)]
    betas = np.array([min(1 - cos2[i + 1] / cos2[i], 0.999) for i in range(1000)])
  t = jnp.float32((np.arange(1000) + 1) / 1000)
  alpha, sigma = Process(schedule).alpha(t), Process(schedule).sigma(t)
  np.testing.assert_allclose(alpha, np.cumprod(1 - betas) ** 0.5, rtol=2e-6)
  np.testing.assert_allclose(sigma, (1 - np.cumprod(1 - betas)) ** 0.5, rtol=2e-6)


def test_a_rescaled_schedule_ends_in_noise_and_begins_as_it_was():
  """Lin et al., 2023, Algorithm 1: the square roots of the products are shifted and scaled."""
  t = jnp.float32((np.arange(1000) + 1) / 1000)
  before, after = (Process(f'scaled_linear{end}').alpha(t) for end in ('', '_zero_snr'))
  assert before[-1] > 0.06  # the network sees the mean of the data in the last step, and keeps it
  assert after[-1] < 1e-4
  np.testing.assert_allclose(after[0], before[0], rtol=1e-6)
  ratio = (before[0] - after) / (before[0] - before)  # one line maps the former to the latter
  np.testing.assert_allclose(ratio[100:], ratio[-1], rtol=1e-4)


@pytest.mark.parametrize('schedule', ['linear', 'discrete_cosine'])
def test_discrete_schedules_are_linear_between_steps(schedule):
  process, t = Process(schedule), jnp.float32([0.5, 0.50025, 0.501])
  left, between, right = process.log_snr(t)
  np.testing.assert_allclose(between, 0.75 * left + 0.25 * right, atol=1e-5)
  assert process.log_snr(jnp.zeros(1)) == 30


@pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
@pytest.mark.parametrize(
  ('schedule', 'name'), [('linear', 'linear'), ('discrete_cosine', 'squaredcos_cap_v2')]
)
def test_discrete_schedules_are_those_of_diffusers(schedule, name):
  goldens = pathlib.Path(os.environ['LUMIERE_DATA'], 'goldens', 'diffusers_schedulers.npz')
  known = np.load(goldens)[f'schedule/{name}/alphas_cumprod']
  alpha = Process(schedule).alpha(jnp.float32((np.arange(1000) + 1) / 1000))
  # They multiply float32 numbers, of which the last, 1 - 0.999, has a relative error of 1e-5.
  np.testing.assert_allclose(alpha**2, known, rtol=2e-5)
  np.testing.assert_allclose(alpha[:-1] ** 2, known[:-1], rtol=3e-6)


@pytest.mark.parametrize('shift', [0.0, -5.545])
@pytest.mark.parametrize('schedule', SCHEDULES)
def test_preserves_variance_and_is_finite_everywhere(schedule, shift):
  process = Process(schedule, shift)
  t = jnp.concatenate([EVERYWHERE, jnp.float32([1e-38, 1e-8, 1 - 1e-7])])
  log_snr, alpha, sigma = process.log_snr(t), process.alpha(t), process.sigma(t)
  np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-6)
  np.testing.assert_allclose(2 * jnp.log(alpha / sigma), log_snr, rtol=1e-5, atol=1e-5)
  assert log_snr.min() >= -20
  assert log_snr.max() <= 30
  before, after = process.log_snr(EVERYWHERE[:-1]), process.log_snr(EVERYWHERE[1:])
  assert ((after < before) | (after == -20) | (before == 30)).all()


@pytest.mark.parametrize('prediction', PREDICTIONS)
@pytest.mark.parametrize('schedule', SCHEDULES)
def test_the_target_leads_back_to_x0(schedule, prediction):
  process, (x0, eps) = Process(schedule, prediction=prediction), draws()
  xt = process.corrupt(x0, EVERYWHERE, eps)
  output = process.x0_from(xt, EVERYWHERE, process.target(x0, EVERYWHERE, eps))
  # An eps prediction has to be divided by alpha: rounding grows by as much.
  scale = 1 / process.alpha(EVERYWHERE) if prediction == 'eps' else jnp.ones(41)
  error = jnp.abs(output - x0).max(axis=(1, 2, 3, 4))
  assert (error < 1e-6 * scale).all()


@pytest.mark.parametrize('schedule', SCHEDULES)
def test_x_t_and_x0_lead_back_to_eps(schedule):
  process, (x0, eps) = Process(schedule), draws()
  output = process.eps_from(process.corrupt(x0, EVERYWHERE, eps), EVERYWHERE, x0)
  error = jnp.abs(output - eps).max(axis=(1, 2, 3, 4))
  assert (error[1:] < 1e-6 / process.sigma(EVERYWHERE)[1:]).all()


def test_v_is_the_velocity_along_the_circle():
  """v is the derivative of x_t by the angle, alpha = cos(angle); cosine times are angles."""
  process, (x0, eps), t, step = Process('cosine'), draws((1, 1, 4, 4, 1)), jnp.float32([0.3]), 1e-2
  ahead, behind = (process.corrupt(x0, t + d, eps) for d in (step, -step))
  derivative = (ahead - behind) / (2 * step) / (np.pi / 2)
  np.testing.assert_allclose(process.target(x0, t, eps), derivative, atol=1e-3)


@pytest.mark.parametrize('prediction', PREDICTIONS)
def test_algebra_of_bfloat16_is_float32(prediction):
  process, t = Process(prediction=prediction), jnp.float32([0.0, 0.4, 1.0])
  short = [a.astype(jnp.bfloat16) for a in draws((3, 1, 2, 2, 1))]
  long = [a.astype(jnp.float32) for a in short]
  for f in (process.corrupt, process.target, process.x0_from, process.eps_from):
    output = f(short[0], t, short[1])
    assert output.dtype == jnp.float32
    np.testing.assert_array_equal(output, f(long[0], t, long[1]))
