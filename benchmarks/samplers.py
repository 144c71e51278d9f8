"""Measures the error of every sampler with every spacing of steps, for docs/sampling.md.

  python -m benchmarks.samplers --steps=25

The data is N(0, d^2), whose denoiser is known, so that only the sampler causes errors.  Each number
is the standard deviation of the samples relative to d: 1 is right.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from core import command
from core.condition import Condition
from core.typing import Float
from diffusion.denoiser import Denoiser
from diffusion.process import Process, per_example
from diffusion.sampler import Times, draw
from diffusion.sampling import FIRST_ORDER, SAMPLERS, SECOND_ORDER_SPACINGS, SPACINGS

DEVIATIONS = (0.5, 0.25, 0.1)
PROCESSES = {
  'cosine': Process('cosine'),
  'cosine, shift -1.386': Process('cosine', shift=-1.386),
  'cosine, shift -4': Process('cosine', shift=-4.0),
  'discrete_cosine': Process('discrete_cosine'),
  'linear': Process('linear'),
}


def exact(process: Process, times: Times, d: float | Float['']) -> Denoiser:
  """The denoiser of N(0, d^2), whose learned variance is right for the steps between `times`."""
  alpha, sigma = process.alpha(times), process.sigma(times)
  fresh = -jnp.expm1(-jnp.diff(process.log_snr(times)))
  std = alpha[1:] * fresh * d * sigma[:-1] / jnp.hypot(d * alpha[:-1], sigma[:-1])
  share = jnp.log1p(std**2 / (sigma[1:] ** 2 * fresh)) / jnp.log(sigma[:-1] / sigma[1:])

  def denoise(xt, t, cond):
    alpha, sigma = per_example(process.alpha(t), xt), per_example(process.sigma(t), xt)
    x0 = alpha * d**2 / ((alpha * d) ** 2 + sigma**2) * xt
    learned = share[jnp.argmin(jnp.abs(times[:-1] - t[0]))] - 1
    return jnp.concatenate([x0, jnp.full_like(xt, learned)], -1)

  return denoise


def deviation(name: str, process: Process, times: Times, d: float) -> float:
  """The standard deviation of a sampler's results from standard normal noise, relative to d.

  The result is linear in the first x_t and the noise of every step.  So its exact coefficients are
  computed by least squares over more pixels than there are coefficients.
  """
  drawn = _noise(len(times) - 1)
  samples = np.asarray(_sample(name, process, times, d, drawn[0]), np.float64)
  coefficients, *_ = np.linalg.lstsq(drawn.reshape(len(drawn), -1).T, samples.ravel(), rcond=None)
  return float(np.linalg.norm(coefficients) / d)


@functools.cache
def _noise(steps):
  """The first x_t, and then the noise of every step."""
  xt = jnp.zeros((1, 1, 1, 4 * (steps + 1), 1))
  noise = jax.vmap(lambda step: draw(_keys(), step, xt))
  return np.asarray(noise(jnp.array([steps, *range(steps)])), np.float64)


def _keys():
  return jax.random.split(jax.random.key(0), 1)


@functools.partial(jax.jit, static_argnames=('name', 'process'))
def _sample(name, process, times, d, xt):
  cond, keys = Condition(jnp.zeros((1, 1, 1))), _keys()
  return SAMPLERS[name](exact(process, times, d), cond, xt, process, times, keys=keys)


def allowed(name: str, spacing: str) -> bool:
  """Whether a sampler accepts a spacing."""
  return name in FIRST_ORDER or spacing in SECOND_ORDER_SPACINGS


def table(steps: int) -> str:
  """A Markdown table of the deviations of every sampler with every spacing, refused ones too."""
  lines = [
    f'| sampler | spacing | {" | ".join(PROCESSES)} |',
    f'|---|---|{"---|" * len(PROCESSES)}',
  ]
  for name in SAMPLERS:
    for spacing, space in SPACINGS.items():
      cells = [name, spacing if allowed(name, spacing) else f'{spacing}: refused']
      for process in PROCESSES.values():
        times = space(process, steps)
        deviations = (deviation(name, process, times, d) for d in DEVIATIONS)
        cells.append(', '.join(f'{std:.3f}' for std in deviations))
      lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def main() -> None:
  print(table(flags.FLAGS.steps))


if __name__ == '__main__':
  flags.DEFINE_integer(
    'steps', 25, 'Number of steps of every sampler.', lower_bound=1, upper_bound=1000
  )
  command.run(main)
