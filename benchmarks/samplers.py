"""Answers which samplers are right at which spacing of their steps: the tables of docs/sampling.md.

  python -m benchmarks.samplers --steps=25

Data are N(0, d^2), whose denoiser is known, so that a sampler alone is to blame for what comes out.
Each number is the standard deviation of that, relative to d: 1 is right.
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
  """The denoiser of N(0, d^2), which says the variance of a step between `times`, too."""
  alpha, sigma = process.alpha(times), process.sigma(times)
  fresh = -jnp.expm1(-jnp.diff(process.log_snr(times)))
  guessed = alpha[1:] * fresh * d * sigma[:-1] / jnp.hypot(d * alpha[:-1], sigma[:-1])
  share = jnp.log1p(guessed**2 / (sigma[1:] ** 2 * fresh)) / jnp.log(sigma[:-1] / sigma[1:])

  def denoise(xt, t, cond):
    alpha, sigma = per_example(process.alpha(t), xt), per_example(process.sigma(t), xt)
    x0 = alpha * d**2 / ((alpha * d) ** 2 + sigma**2) * xt
    learned = share[jnp.argmin(jnp.abs(times[:-1] - t[0]))] - 1
    return jnp.concatenate([x0, jnp.full_like(xt, learned)], -1)

  return denoise


def deviation(name: str, process: Process, times: Times, d: float) -> float:
  """The standard deviation, relative to d, of what a sampler makes of standard normal noise.

  All of it is linear in what is drawn, the first x_t and the noise of every step.  So its
  coefficients are solved for from more pixels than there are of them, and no chance is left.
  """
  drawn = _noise(len(times) - 1)
  made = np.asarray(_made(name, process, times, d, drawn[0]), np.float64)
  coefficients, *_ = np.linalg.lstsq(drawn.reshape(len(drawn), -1).T, made.ravel(), rcond=None)
  return float(np.linalg.norm(coefficients) / d)


@functools.cache
def _noise(steps):
  """The first x_t, then the noise that is drawn at every step."""
  xt = jnp.zeros((1, 1, 1, 4 * (steps + 1), 1))
  noise = jax.vmap(lambda step: draw(_keys(), step, xt))
  return np.asarray(noise(jnp.array([steps, *range(steps)])), np.float64)


def _keys():
  return jax.random.split(jax.random.key(0), 1)


@functools.partial(jax.jit, static_argnames=('name', 'process'))
def _made(name, process, times, d, xt):
  cond, keys = Condition(jnp.zeros((1, 1, 1))), _keys()
  return SAMPLERS[name](exact(process, times, d), cond, xt, process, times, keys=keys)


def allowed(name: str, spacing: str) -> bool:
  """Whether a sampler may be given a spacing."""
  return name in FIRST_ORDER or spacing in SECOND_ORDER_SPACINGS


def table(steps: int) -> str:
  """The deviations of every sampler at every spacing, and at those it is refused, in Markdown."""
  lines = [
    f'| sampler | spacing | {" | ".join(PROCESSES)} |',
    f'|---|---|{"---|" * len(PROCESSES)}',
  ]
  for name in SAMPLERS:
    for spacing, space in SPACINGS.items():
      cells = [name, spacing if allowed(name, spacing) else f'{spacing}: refused']
      for process in PROCESSES.values():
        times = space(process, steps)
        found = (deviation(name, process, times, d) for d in DEVIATIONS)
        cells.append(', '.join(f'{std:.3f}' for std in found))
      lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def main() -> None:
  print(table(flags.FLAGS.steps))


if __name__ == '__main__':
  flags.DEFINE_integer('steps', 25, 'Of every sampler.', lower_bound=1, upper_bound=1000)
  command.run(main)
