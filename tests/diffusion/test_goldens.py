"""Complete trajectories of diffusers' schedulers, reproduced by this project's samplers.

The network of the goldens outputs  x i / (i + 1)  at step i of 1000, which is time (i + 1) / 1000.
Where diffusers differs, it does in what a sampler is called with:

- `final_sigmas_type='sigma_min'` ends at step 0, time 1/1000; all others end at time 0.
- DDIM spaced by 'linspace' steps to i - 100 and takes the output for that at the next i.
- DDIM takes the noise of the unclipped x0 together with the clipped x0 (`as_diffusers_clips`).
- Euler is DDIM on x_t / alpha.
"""

import functools
import json
import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from core.condition import Condition
from diffusion import sampler
from diffusion.denoiser import clipped, dynamically_thresholded, network
from diffusion.process import Process, per_example

pytestmark = pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')

SUPPORTED = {
  r'ddim/.*/eta0.*': sampler.ddim,
  r'ddim/.*/eta1': functools.partial(sampler.ddim, eta=1.0),
  r'ddpm/.*/fixed_small': functools.partial(sampler.ddpm, variance='small'),
  r'ddpm/.*/fixed_large': functools.partial(sampler.ddpm, variance='large'),
  r'dpmpp/.*/order1': sampler.ddim,
  r'dpmpp/.*/order2': sampler.dpmpp_2m,
  r'euler/.*': sampler.ddim,
}
UNSUPPORTED = {
  r'ddim/.*/trailing_zero_snr': 'the log-SNR is at least -20, and `linear` is not rescaled here',
  r'dpmpp/.*/order2_heun_lof_zero': 'x0 is extrapolated to the middle of a step',
  r'dpmpp/.*/order3': 'no sampler of third order',
  r'dpm/.*': 'DPM-Solver interpolates eps; DPM-Solver++, which interpolates x0, replaced it',
  r'sde_dpmpp/.*': 'no stochastic sampler of second order',
  r'edm_dpmpp_2m/.*': 'the process of EDM does not preserve variance',
}
SCHEDULES = {'linear': 'linear', 'squaredcos_cap_v2': 'discrete_cosine'}
PREDICTIONS = {'epsilon': 'eps', 'sample': 'x0', 'v_prediction': 'v'}
COND = Condition(jnp.zeros((4, 1, 1)))


@pytest.fixture(scope='module')
def goldens():
  folder = pathlib.Path(os.environ['LUMIERE_DATA'], 'goldens')
  index = json.loads((folder / 'diffusers_schedulers_index.json').read_text())
  return index['cases'], np.load(folder / 'diffusers_schedulers.npz')


def matching(cases, *patterns):
  return [name for name in cases if any(re.fullmatch(p, name) for p in patterns)]


def test_every_case_is_accounted_for(goldens):
  cases, _ = goldens
  assert len(matching(cases, *SUPPORTED)) == 64
  assert len(matching(cases, *UNSUPPORTED)) == 24
  assert sorted(matching(cases, *SUPPORTED, *UNSUPPORTED)) == sorted(cases)
  assert len(cases) == 88


@pytest.mark.parametrize('pattern', SUPPORTED)
def test_trajectories(pattern, goldens, monkeypatch):
  monkeypatch.setattr(sampler, 'draw', lambda keys, step, like: keys[step])
  cases, arrays = goldens
  for name in matching(cases, pattern):
    config = cases[name]['config']
    got = trajectory(name, config, arrays, SUPPORTED[pattern])
    known = [video(x) for x in arrays[f'{name}/traj']]
    assert len(got) == len(known)
    error = max(np.abs(a - b).max() for a, b in zip(got, known))
    largest = max(np.abs(x).max() for x in known)
    assert error <= tolerance(name, config) * largest, f'{name}: {error / largest:.1e}'


def tolerance(name, config):
  """The largest error relative to the largest value of the golden."""
  prediction, spacing = config['prediction_type'], config.get('timestep_spacing', 'linspace')
  if name.startswith('euler'):
    return 2e-6
  if prediction == 'epsilon' and name.split('/')[1] != 'linear' and spacing != 'leading':
    return 1.5e-4 if 'ddpm' not in name else 1e-5  # 1 / alpha is 20,000 at i = 999
  if prediction == 'sample' and spacing != 'trailing' and 'ddim' in name:
    return 7e-5  # the network says 0 at i = 0: eps is 170 there, and sigma(0) is 3e-7
  return 1e-5


def trajectory(name, config, arrays, sample):
  """The results of `sample` from the golden's start, after every step."""
  process = Process(
    SCHEDULES[config['beta_schedule']], prediction=PREDICTIONS[config['prediction_type']]
  )
  steps = np.float64(arrays[f'{name}/timesteps'])
  last = 0 if config.get('final_sigmas_type') == 'sigma_min' else -1
  times = jnp.float32((np.append(steps, last) + 1) / 1000)
  to = jnp.float32(np.maximum(steps - 99, 0) / 1000) if 'linspace' in name else times[1:]
  xt = video(arrays['dummy_sample_deter'])
  if 'order2' in name:
    no_noise = noise_of(None, arrays, 0)
    # A step from a time to itself does nothing: stop after 1, 2, ... steps.
    return [advance(sample, process, None, xt, jnp.maximum(times, s), no_noise) for s in to]
  scale = process.alpha(times) if name.startswith('euler') else jnp.ones(len(times))
  made, xt = [], xt * scale[0]
  for i, pair in enumerate(zip(times, to)):
    noise = noise_of(f'{name}/noise', arrays, i)
    xt = advance(sample, process, clipping(config), xt, jnp.stack(pair), noise)
    made.append(xt / scale[i + 1])
  return made


@functools.partial(jax.jit, static_argnames=('sample', 'process', 'clip'))
def advance(sample, process, clip, xt, times, noise):
  """x at the last of `times`; `noise`, by step, is in place of a key."""

  def predict(params, xt, t, cond):
    i = jnp.round(1000 * t[0] - 1)
    return xt * i / (i + 1)

  denoiser = network(predict, {}, process)
  if clip is not None:
    denoiser = as_diffusers_clips(denoiser, clip(denoiser), process, times[-1])
  return sample(denoiser, COND, xt, process, times, keys=noise)


@functools.cache
def thresholding(quantile, cap):
  return lambda denoiser: dynamically_thresholded(denoiser, quantile, cap)


def clipping(config):
  """The thresholding that the golden's configuration has, if any."""
  if config.get('thresholding'):
    return thresholding(config['dynamic_thresholding_ratio'], config['sample_max_value'])
  return clipped if config.get('clip_sample') else None


def as_diffusers_clips(raw, clipping, process, s):
  """The denoiser with which a step to s is  alpha_s clipped x0 + sigma_s eps of the raw x0."""

  def denoise(xt, t, cond):
    x0, clipped_x0 = raw(xt, t, cond), clipping(xt, t, cond)
    to = jnp.full_like(t, s)
    left = process.alpha(t) * process.sigma(to) / process.sigma(t)
    return clipped_x0 + per_example(left / (process.alpha(to) - left), xt) * (clipped_x0 - x0)

  return denoise


def noise_of(name, arrays, i):
  """The noise of step i, as that of the only step; the last step of DDPM draws none."""
  if name not in arrays or i >= len(arrays[name]):
    return jnp.zeros((1, *video(arrays['dummy_sample_deter']).shape))
  return video(arrays[name][i])[None]


def video(x):
  return rearrange(jnp.asarray(x), 'b c h w -> b 1 h w c')
