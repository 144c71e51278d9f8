"""The samplers of DeepFloyd IF and Stable Diffusion, recorded by tests/parity from diffusers."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from core.condition import Condition
from diffusion import sampler
from diffusion.process import Process
from diffusion.sampling import SAMPLERS, SPACINGS, THRESHOLDS
from tests.oracles import relative_error

TESTS = pathlib.Path(__file__).resolve().parent.parent


def video(x):
  return jnp.asarray(rearrange(x, 'b c h w -> b 1 h w c'))


def test_a_hundred_steps_with_a_learned_variance_are_those_of_diffusers(monkeypatch):
  recorded = np.load(TESTS / 'diffusion' / 'recorded' / 'if_ddpm.npz')
  noises = jnp.stack([video(z) for z in recorded['noises']])
  monkeypatch.setattr(sampler, 'draw', lambda keys, step, like: noises[step])
  process = Process(schedule='discrete_cosine', prediction='eps')
  seen = []

  def network(xt, t, cond):
    jax.debug.callback(lambda x: seen.append(np.asarray(x)), xt, ordered=True)
    step = jnp.round(1000 * t[:, None, None, None, None]) - 1
    x0 = process.x0_from(xt, t, 2 * jnp.sin(3 * xt) + step / 1000)
    return jnp.concatenate([x0, jnp.cos(5 * xt)], -1)

  times = SPACINGS['leading'](process, 100)
  keys, cond = jax.random.split(jax.random.key(0), 2), Condition(jnp.zeros((2, 1, 1)))
  start = video(recorded['samples'][0])
  last = SAMPLERS['ddpm_learned'](
    THRESHOLDS['dynamic_if'](network), cond, start, process, times, keys=keys
  )
  jax.effects_barrier()
  known = [np.asarray(video(x)) for x in recorded['samples']]
  assert len(seen) == 100
  for step, (got, want) in enumerate(zip([*seen, last], known, strict=True)):
    np.testing.assert_allclose(got, want, atol=2e-4, rtol=2e-4, err_msg=f'after {step} steps')


def test_it_was_the_scheduler_that_is_published_for_if():
  scheduler = json.loads((TESTS / 'stunet' / 'recorded' / 'scheduler' / 'scheduler_config.json')
                         .read_text())  # fmt: skip
  assert scheduler['variance_type'] == 'learned_range'
  assert scheduler['beta_schedule'] == 'squaredcos_cap_v2'


@pytest.mark.parametrize(
  ('name', 'schedule', 'spacing', 'tolerance'),
  [
    ('eps', 'scaled_linear', 'leading_sd', 1e-5),
    ('v', 'scaled_linear', 'leading_sd', 1e-5),
    # At t = 1 alpha is 4.5e-5 here and 0 there.
    ('zero_snr', 'scaled_linear_zero_snr', 'even_times', 1e-4),
  ],
)
def test_twenty_steps_of_stable_diffusion_are_those_of_diffusers(
  name, schedule, spacing, tolerance
):
  known = np.load(TESTS / 'diffusion' / 'recorded' / 'sd_ddim.npz')[f'{name}/samples']
  process = Process(schedule=schedule, prediction='eps' if name == 'eps' else 'v')
  seen = []

  def network(xt, t, cond):
    jax.debug.callback(lambda x: seen.append(np.asarray(x)), xt, ordered=True)
    step = jnp.round(1000 * t[:, None, None, None, None]) - 1
    return process.x0_from(xt, t, jnp.sin(3 * xt) + step / 1000)

  times = SPACINGS[spacing](process, 20)
  keys, cond = jax.random.split(jax.random.key(0), 2), Condition(jnp.zeros((2, 1, 1)))
  last = SAMPLERS['ddim'](network, cond, video(known[0]), process, times, keys=keys)
  jax.effects_barrier()
  for step, (got, want) in enumerate(zip([*seen, last], known, strict=True)):
    assert relative_error(got, video(want)) <= tolerance, f'after {step} steps'


@pytest.mark.parametrize(
  ('name', 'schedule'), [('eps', 'scaled_linear'), ('zero_snr', 'scaled_linear_zero_snr')]
)
def test_the_schedules_of_stable_diffusion_are_those_of_diffusers(name, schedule):
  known = np.load(TESTS / 'diffusion' / 'recorded' / 'sd_ddim.npz')[f'{name}/alphas_cumprod']
  alpha = Process(schedule).alpha(jnp.float32((np.arange(1000) + 1) / 1000))
  # They multiply float32 numbers; the last that is rescaled is 0 there, and near it here.
  np.testing.assert_allclose(alpha**2, known, rtol=1e-5, atol=1e-8)
