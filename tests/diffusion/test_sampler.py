"""Samplers against Gaussian data N(0, s^2), whose denoiser is known: they must turn 1 into s."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from diffusion import sampler
from diffusion.denoiser import network
from diffusion.process import Process, per_example

KEY = jax.random.key(0)
KEYS = jax.random.split(KEY, 4)
S = 0.5  # about that of videos in [-1, 1]
DDPM_S = functools.partial(sampler.ddpm, variance=S)
COND = Condition(jnp.zeros((4, 1, 1)))

PROCESSES = [
  *(Process('cosine', shift, p) for shift in (0.0, -2.0) for p in ('eps', 'v', 'x0')),
  Process('linear', prediction='eps'),
]
every_process = pytest.mark.parametrize(
  'process', PROCESSES, ids=lambda p: f'{p.schedule}{p.shift:+.0f}-{p.prediction}'
)


def exact(process, s):
  """The denoiser of N(0, s^2), computed through the prediction of the process."""

  def apply(params, xt, t, cond):
    alpha, sigma = per_example(process.alpha(t), xt), per_example(process.sigma(t), xt)
    x0, eps = (k * xt / ((alpha * s) ** 2 + sigma**2) for k in (alpha * s**2, sigma))
    return {'x0': x0, 'eps': eps, 'v': alpha * eps - sigma * x0}[process.prediction]

  return network(apply, {}, process)


@functools.partial(jax.jit, static_argnames=('sample', 'process'))
def run(sample, process, s, times, xt):
  return sample(exact(process, s), COND, xt, process, times, keys=KEYS)


def gain(sample, process, times, s):
  """The factor of a deterministic sampler, which is linear: its result from 1."""
  return run(sample, process, s, times, jnp.ones((4, 1, 1, 1, 1)))[0].item()


def noisy_std(sample, process, times, s):
  """The standard deviation of what a sampler makes of standard normal noise.

  The result is linear in the first x_t and the noise of every step.  Their coefficients are solved
  for from more pixels than there are coefficients, so the answer is exact.
  """
  drawn = noise(len(times) - 1)
  made = np.asarray(run(sample, process, s, times, jnp.float32(drawn[0])), np.float64)
  coefficients, *_ = np.linalg.lstsq(drawn.reshape(len(drawn), -1).T, made.ravel(), rcond=None)
  return np.linalg.norm(coefficients)


@functools.cache
def noise(steps):
  """A first x_t of `len(KEYS)` videos, then the noise that a sampler draws at every step."""
  like = jnp.zeros((len(KEYS), 1, 1, steps + 1, 1))
  draw = jax.vmap(lambda step: sampler.draw(KEYS, step, like))
  return np.asarray(draw(jnp.array([steps, *range(steps)])), np.float64)


@every_process
def test_dpmpp_2m_within_one_percent_in_64_steps(process):
  times = sampler.even_angles(process, 64)
  assert gain(sampler.dpmpp_2m, process, times, S) == pytest.approx(S, rel=1e-3)
  for s in (0.1, 1.0):
    assert gain(sampler.dpmpp_2m, process, times, s) == pytest.approx(s, rel=1e-2)


@every_process
def test_dpmpp_2m_within_one_percent_in_64_even_steps(process):
  assert gain(sampler.dpmpp_2m, process, sampler.times(64), S) == pytest.approx(S, rel=1e-2)


@every_process
def test_ddpm_within_one_percent_in_64_steps(process):
  std = noisy_std(DDPM_S, process, sampler.even_angles(process, 64), S)
  assert std == pytest.approx(S, rel=5e-3)


def test_large_variance_is_exact_for_unit_data():
  sample = functools.partial(sampler.ddpm, variance='large')
  for process in PROCESSES[:2]:
    assert noisy_std(sample, process, sampler.times(64), 1.0) == pytest.approx(1, rel=5e-3)


def test_small_variance_is_exact_for_one_point():
  process, xt = Process(), jax.random.normal(KEY, (4, 8, 64, 64, 1))

  def point(xt, t, cond):
    return jnp.full_like(xt, 0.7)

  to = jnp.linspace(1.0, 0.3, 4)
  half_way = sampler.ddpm(point, COND, xt, process, to, keys=KEYS[::-1], variance='small')
  assert half_way.mean() == pytest.approx(0.7 * process.alpha(to)[-1].item(), rel=5e-3)
  assert half_way.std() == pytest.approx(process.sigma(to)[-1].item(), rel=5e-3)
  done = sampler.ddpm(point, COND, xt, process, sampler.times(4), keys=KEYS, variance='small')
  np.testing.assert_allclose(done, 0.7, atol=2e-6)


@every_process
def test_ddim_loses_what_a_first_order_sampler_must(process):
  """1 - cos(pi / 2n)^n of the standard deviation at the best times: 1.9% in 64 steps, 1% in 128.

  With other times it loses the product of the cosines of the angles it moves by.
  """
  for steps in (64, 128):
    best = S * np.cos(np.pi / 2 / steps) ** steps
    times = sampler.even_angles(process, steps)
    assert gain(sampler.ddim, process, times, S) == pytest.approx(best, rel=2e-4)
  assert best == pytest.approx(S, rel=1e-2)
  times = sampler.times(20)
  angles = np.arctan(np.exp(-np.float64(process.log_snr(times)) / 2) / S)
  known = S * np.cos(np.diff(angles)).prod()
  assert gain(sampler.ddim, process, times, S) == pytest.approx(known, rel=5e-5)


def test_dpmpp_2m_is_of_second_order():
  """Doubling the steps must divide the error by about 4; of first order, it would be by 2."""
  process = Process()
  ends = [jnp.linspace(0.9, 0.1, n + 1) for n in (32, 64, 1024)]
  coarse, fine, limit = (gain(sampler.dpmpp_2m, process, times, S) for times in ends)
  assert 3.3 < (coarse - limit) / (fine - limit) < 5


def test_ddim_with_eta_1_is_ddpm():
  process, xt = Process(shift=-1.0), jax.random.normal(KEY, (4, 2, 4, 4, 3))
  args = exact(process, S), COND, xt, process, sampler.times(8)
  ddpm = sampler.ddpm(*args, keys=KEYS, variance='small')
  np.testing.assert_allclose(sampler.ddim(*args, keys=KEYS, eta=1.0), ddpm, atol=2e-6)
  assert jnp.abs(sampler.ddim(*args, keys=KEYS, eta=0.5) - ddpm).max() > 0.1


def test_named_variances_are_their_formulas(monkeypatch):
  """With an x0 of nothing, x_s is the mean plus noise, which noise of 0 and 1 separates."""
  process, xt, times = Process(), jnp.ones((4, 1, 1, 1, 1)), jnp.float32([0.6, 0.4])
  args = COND, xt, process, times

  def nothing(xt, t, cond):
    return jnp.zeros_like(xt)

  at, to = np.float64(process.alpha(times)) ** 2
  beta = 1 - at / to
  small = (1 - to) / (1 - at) * beta
  says = lambda v: lambda xt, t, cond: jnp.concatenate([nothing(xt, t, cond), v + 0 * xt], -1)
  for denoiser, variance, known in (
    (nothing, 'small', small),
    (nothing, 'large', beta),
    (says(-1), 'learned', small),
    (says(1), 'learned', beta),
    (says(0.5), 'learned', beta**0.75 * small**0.25),
  ):
    ends = []
    for noise in (0.0, 1.0):
      monkeypatch.setattr(sampler, 'draw', lambda keys, step, like, z=noise: jnp.full_like(like, z))
      ends.append(sampler.ddpm(denoiser, *args, keys=KEYS, variance=variance))
    np.testing.assert_allclose((ends[1] - ends[0]) ** 2, known, rtol=1e-5)


def test_a_variance_that_is_not_learned_is_refused():
  args = COND, jnp.ones((4, 1, 1, 1, 1)), Process(), sampler.times(4)
  with pytest.raises(ValueError, match='has 0; out_channels must be 2'):
    sampler.ddpm(lambda xt, t, cond: xt, *args, keys=KEYS, variance='learned')


def test_the_times_of_stable_diffusion_are_a_step_later_and_end_in_step_0():
  times = sampler.leading_sd(4)
  np.testing.assert_allclose(times, [0.752, 0.502, 0.252, 0.002, 0.001], rtol=1e-6)
  known = [0.602, 0.402, 0.202, 0.002, 0.001]
  np.testing.assert_allclose(sampler.leading_sd(4, 0.602), known, rtol=1e-5)
  assert not np.diff(sampler.leading_sd(4, 0.0)).any()
  assert sampler.leading_sd(999)[0] == 1
  for steps in (0, 1000):
    with pytest.raises(ValueError, match=f'^Got {steps} steps; allowed are 1 to 999'):
      sampler.leading_sd(steps)


def test_leading_times_are_those_of_evenly_spaced_steps_of_a_thousand():
  np.testing.assert_allclose(sampler.leading(4), [0.751, 0.501, 0.251, 0.001, 0], rtol=1e-6)
  np.testing.assert_allclose(sampler.leading(3)[:3], [0.667, 0.334, 0.001], rtol=1e-6)
  assert len(sampler.leading(1000)) == 1001
  np.testing.assert_allclose(sampler.leading(4, 0.601), [0.601, 0.401, 0.201, 0.001, 0], rtol=1e-5)
  assert not np.diff(sampler.leading(4, 0.0)).any()
  for steps in (0, 1001):
    with pytest.raises(ValueError, match=f'Got {steps} steps; allowed are 1 to 1000'):
      sampler.leading(steps)


def test_unknown_variance_and_single_time_are_refused():
  process, xt = Process(), jnp.ones((4, 1, 1, 1, 1))
  args = exact(process, S), COND, xt, process
  for variance in ('medium', 2.0):
    message = (
      f'Unknown variance: {variance!r}.  Allowed: large, learned, small, a number in [0, 1].'
    )
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
      sampler.ddpm(*args, sampler.times(4), keys=KEYS, variance=variance)
  with pytest.raises(ValueError, match=r'^Got times of shape \(1,\); allowed is \(n,\) with n of'):
    sampler.ddim(*args, jnp.ones(1), keys=KEYS)


@pytest.mark.parametrize('start', [1.0, 0.6])
@pytest.mark.parametrize('shift', [0.0, -5.5])
def test_times(shift, start):
  process = Process(shift=shift)
  np.testing.assert_allclose(sampler.times(4, start), start * np.linspace(1, 0, 5), atol=1e-7)
  times = sampler.even_angles(process, 10, start, std=0.3)
  angles = np.arctan(process.sigma(times) / (0.3 * process.alpha(times)))
  np.testing.assert_allclose(np.diff(angles), -angles[0] / 10, rtol=2e-3)
  assert times[0] == jnp.float32(start)
  assert times[-1] == 0


def test_even_angles_are_even_times_for_unit_data_under_the_cosine():
  even = sampler.even_angles(Process(), 16, std=1.0)
  np.testing.assert_allclose(even, sampler.times(16), atol=1e-4)


@pytest.mark.parametrize('sample', [sampler.ddim, sampler.ddpm, sampler.dpmpp_2m])
def test_every_step_is_reported(sample):
  seen, process = [], Process()
  run = jax.jit(
    lambda x: sample(
      exact(process, S), COND, x, process, sampler.times(5), keys=KEYS, on_step=seen.append
    )
  )
  output = run(jnp.ones((4, 1, 1, 1, 1), jnp.bfloat16))
  jax.effects_barrier()
  assert sorted(seen) == [0, 1, 2, 3, 4]
  assert output.dtype == jnp.float32


@pytest.mark.parametrize('sample', [sampler.ddim, DDPM_S, sampler.dpmpp_2m])
def test_ends_at_the_answer(sample):
  """The result at t = 0 is the last x0, whatever the network predicted before."""
  process, known = Process(shift=-5.5, prediction='eps'), jax.random.normal(KEY, (4, 2, 4, 4, 3))

  def denoiser(xt, t, cond):
    return jnp.where(t[0] < 0.11, known, 100 * jnp.sin(xt))

  xt = jax.random.normal(jax.random.key(2), known.shape)
  output = sample(denoiser, COND, xt, process, sampler.times(10), keys=KEYS)
  np.testing.assert_allclose(output, known, atol=1e-4)
