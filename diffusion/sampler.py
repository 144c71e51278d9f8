"""Samplers: from x_t at the first of a list of decreasing times to x_t at the last, usually 0.

For a step from time t to the next time s, let h be half of the increase of the log-SNR.  All three
samplers have one form:

  x_s = keep sigma_s / sigma_t x_t  +  alpha_s (1 - keep exp(-h)) x_0  +  noise z,

where x_0 is the denoiser's output at t and z is standard normal.  keep = 1 and noise = 0 is the
deterministic step (DDIM, Song et al. 2021, Eq. 12, which is also first-order DPM-Solver++).

On Gaussian data of standard deviation d, a deterministic first-order step shrinks the standard
deviation by the factor cos(angle), where the angle is the change of atan(sigma / (d alpha)).  So n
steps from t = 1 to 0 lose at least 1 - cos(pi / 2n)^n of the standard deviation, 1.9% for 64 steps;
times of `even_angles` reach that bound.  With DDPM and the variance of the data, only the last
step, which draws no noise, loses such a factor.

The second-order term of `dpmpp_2m` extrapolates the change of x_0 with the log-SNR from the step
before.  That fails if a step is many times as long as the one before, as the last steps of even or
`leading` times are: docs/sampling.md has the errors of each sampler with each spacing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from core.condition import Condition
from core.errors import UserError
from core.typing import Float, Int, Keys, Video
from diffusion.denoiser import Denoiser
from diffusion.process import Process

OnStep = Callable[[int], None]
Times = Float['n']


def times(steps: int, start: float | Float[''] = 1.0) -> Times:
  """Evenly spaced times from `start` to 0."""
  return jnp.linspace(start, 0.0, steps + 1)


def leading(steps: int, start: float | Float[''] | None = None) -> Times:
  """Times of evenly spaced steps among 1000, from step 0 upwards, and then 0 ("leading" spacing).

  DeepFloyd IF is sampled in this way.  The time of its step i is (i + 1) / 1000, so the first time
  is below 1, and x_t there is pure noise.  If `start` is given, it is the first time, and the
  others are evenly spaced from there to the time of step 0.

  ValueError for more than 1000 steps.
  """
  if not 1 <= steps <= 1000:
    raise UserError(f'Got {steps} steps; allowed are 1 to 1000.')
  if start is None:
    nonzero = (jnp.arange(steps)[::-1] * (1000 // steps) + 1) / 1000
  else:
    nonzero = jnp.linspace(start, jnp.minimum(start, 0.001), steps)
  return jnp.append(nonzero, 0.0)


def leading_sd(steps: int, start: float | Float[''] | None = None) -> Times:
  """Times of evenly spaced steps among 1000, from step 1 upwards, and then that of step 0.

  Stable Diffusion is sampled in this way (`steps_offset` 1 and `set_alpha_to_one` false of its
  scheduler).  The little noise of step 0 is left in the result.  If `start` is given, it is the
  first time, and the others are evenly spaced from there to the time of step 1.

  ValueError for more than 999 steps.
  """
  if not 1 <= steps <= 999:
    raise UserError(f'Got {steps} steps; allowed are 1 to 999.')
  if start is None:
    return jnp.append((jnp.arange(steps)[::-1] * (1000 // steps) + 2) / 1000, 0.001)
  noisy = jnp.linspace(start, jnp.minimum(start, 0.002), steps)
  return jnp.append(noisy, jnp.minimum(noisy[-1], 0.001))


def even_angles(
  process: Process, steps: int, start: float | Float[''] = 1.0, std: float = 0.5
) -> Times:
  """Times from `start` to 0 at which atan(sigma / (std alpha)) decreases in even steps.

  With a first-order sampler on Gaussian data of standard deviation `std`, these times lose the
  least standard deviation.  DDIM then loses 1.9% in 64 steps under every schedule; with evenly
  spaced times it loses 2.4% under the cosine schedule, and 5.3% if that is shifted by -2.
  """
  grid = jnp.linspace(0.0, 1.0, 2**14 + 1)
  angle = jnp.arctan2(process.sigma(grid), std * process.alpha(grid))
  even = jnp.linspace(jnp.interp(start, grid, angle), angle[0], steps + 1)
  return jnp.interp(even, angle, grid).at[0].set(start)


def ddim(
  denoiser: Denoiser,
  cond: Condition,
  xt: Video,
  process: Process,
  times: Times,
  *,
  keys: Keys,
  on_step: OnStep | None = None,
  eta: float = 0.0,
) -> Video:
  """The video at the last time, by DDIM (Song et al. 2021, Eq. 12).

  keys: one random key for each video; the noise of a video does not depend on the others.
  eta: 0 is deterministic; 1 is `ddpm` with the 'small' variance.
  on_step: called on the host with the index of each step when it is done.
  """
  h = _half_growth(process, times)
  keep = jnp.sqrt(1 - eta**2 + eta**2 * jnp.exp(-2 * h))
  if not eta:
    return _first_order(denoiser, cond, xt, process, times, keep, keys, on_step)
  noise = eta * process.sigma(times[1:]) * jnp.sqrt(-jnp.expm1(-2 * h))
  std = lambda xt, learned, noise: noise
  return _first_order(denoiser, cond, xt, process, times, keep, keys, on_step, std, (noise,))


def ddpm(
  denoiser: Denoiser,
  cond: Condition,
  xt: Video,
  process: Process,
  times: Times,
  *,
  keys: Keys,
  on_step: OnStep | None = None,
  variance: str | float = 0.5,
  mask: Float['b t h w 1'] | None = None,
) -> Video:
  """The video at the last time, by ancestral sampling (DDPM, Ho et al. 2020, Algorithm 2).

  keys: one random key for each video.
  variance: the variance of a step.  'small' is that of q(x_s | x_t, x_0), which is exact if the
    data is one point; 'large' is that of q(x_t | x_s), which is exact if the data is N(0, 1) (Ho et
    al. 2020, Sec. 3.2).  A number d in [0, 1] is exact for N(0, d^2): 0 is 'small' and 1 is
    'large'; videos in [-1, 1] have about 0.5.  'learned' interpolates between the logarithms of
    'small' and 'large' by the network's output, from -1 to 1 (Nichol & Dhariwal 2021, Eq. 15).
    The step to t = 0 draws no noise.
  mask: 1 where x_0 is given, 0 where the denoiser predicts it, or between; None is 0 everywhere.
    The standard deviation d, or the exponent that the network predicts, is scaled by 1 - mask.
    Where x_0 is given the variance is 'small', with which x_t is N(alpha x_0, sigma^2) at every
    time.
  on_step: called on the host with the index of each step when it is done.
  """
  learned = variance == 'learned'
  d = {'small': 0.0, 'large': 1.0, 'learned': 0.0}.get(variance, variance)
  if isinstance(d, str) or not 0 <= d <= 1:
    raise UserError(
      f'Unknown variance: {variance!r}.  Allowed: large, learned, small, a number in [0, 1].'
    )
  h = _half_growth(process, times)
  alpha, sigma = process.alpha(times), process.sigma(times)
  fresh = -jnp.expm1(-2 * h)
  small = jnp.where(times[1:] > 0, sigma[1:] * jnp.sqrt(fresh), 0.0)
  predicted = 1.0 if mask is None else 1 - mask
  if learned:
    # From 'small' to 'large', whose standard deviation is  sigma_t sqrt(fresh).
    inputs = small, sigma[:-1] / sigma[1:]

    def std(xt, learned, small, ratio):
      return small * ratio ** (predicted * (_required(learned, xt) + 1) / 2)

  else:
    posterior = d * sigma[:-1] / jnp.hypot(d * alpha[:-1], sigma[:-1])  # std of x_0 given x_t
    inputs = small, jnp.where(times[1:] > 0, alpha[1:] * fresh * posterior, 0.0)

    def std(xt, learned, small, of_x0):
      return jnp.hypot(small, predicted * of_x0)

  keep = jnp.exp(-h)
  return _first_order(denoiser, cond, xt, process, times, keep, keys, on_step, std, inputs)


def dpmpp_2m(
  denoiser: Denoiser,
  cond: Condition,
  xt: Video,
  process: Process,
  times: Times,
  *,
  keys: Keys,
  on_step: OnStep | None = None,
) -> Video:
  """The video at the last time, by DPM-Solver++ 2M (Lu et al. 2022, Algorithm 2).

  The first step is of first order, and so is a step to t = 0, where the log-SNR is clipped and its
  increase is not the length of the step.

  on_step: called on the host with the index of each step when it is done.
  """
  h = _half_growth(process, times)
  before = jnp.concatenate([h[:1], h[:-1]])
  second_order = (jnp.arange(len(h)) > 0) & (times[1:] > 0) & (before > 0)
  weight = jnp.where(second_order, 0.5 * h / jnp.where(before > 0, before, 1.0), 0.0)
  scale_xt, scale_x0 = coefficients(process, times[:-1], times[1:])

  def step(carry, i, t, scale_xt, scale_x0, weight):
    xt, before = carry
    x0, _ = _predict(denoiser, xt, t, cond)
    return scale_xt * xt + scale_x0 * (x0 + weight * (x0 - before)), x0

  xt = xt.astype(jnp.float32)
  return _scan(step, (xt, jnp.zeros_like(xt)), times, on_step, (scale_xt, scale_x0, weight))[0]


def draw(keys: Keys, step: Int[''], like: Video) -> Video:
  """The standard normal noise of one step, for every video from its own key."""
  return jax.vmap(lambda k, x: jax.random.normal(jax.random.fold_in(k, step), x.shape))(keys, like)


def _first_order(
  denoiser, cond, xt, process, times, keep, keys, on_step, std=None, inputs=()
):  # fmt: skip
  """The video at the last time, by steps of the form at the top of this file, one for each `keep`.

  std: returns the standard deviation of a step's noise, `std(xt, learned, *inputs of the step)`,
    where `learned` are the denoiser's variance channels; None draws no noise.
  """

  def step(xt, i, t, scale_xt, scale_x0, *inputs):
    x0, learned = _predict(denoiser, xt, t, cond)
    mean = scale_xt * xt + scale_x0 * x0
    return mean + std(xt, learned, *inputs) * draw(keys, i, xt) if std else mean

  factors = coefficients(process, times[:-1], times[1:], keep)
  return _scan(step, xt.astype(jnp.float32), times, on_step, (*factors, *inputs))


def coefficients(
  process: Process, t: Times, s: Times, keep: Float['...'] | float = 1.0
) -> tuple[Float['...'], Float['...']]:
  """The factors of x_t and of x_0 in steps from times t to s, as at the top of this file."""
  scale_xt = keep * process.sigma(s) / process.sigma(t)
  h = (process.log_snr(s) - process.log_snr(t)) / 2
  return scale_xt, process.alpha(s) * (1 - keep * jnp.exp(-h))


def _half_growth(process, times):
  if times.ndim != 1 or len(times) < 2:
    raise UserError(f'Got times of shape {times.shape}; allowed is (n,) with n of 2 or more.')
  return jnp.diff(process.log_snr(times)) / 2


def _predict(denoiser, xt, t, cond):
  """The denoiser's x_0, and its variance channels, of which there may be none."""
  output = denoiser(xt, jnp.full(xt.shape[:1], t), cond).astype(jnp.float32)
  return output[..., : xt.shape[-1]], output[..., xt.shape[-1] :]


def _required(learned, xt):
  if learned.shape != xt.shape:
    raise UserError(
      f'A learned variance needs {xt.shape[-1]} channels besides those of x_0, but the network has '
      f'{learned.shape[-1]}; out_channels must be {2 * xt.shape[-1]}.'
    )
  return learned


def _scan(step, carry, times, on_step, coefficients):
  """The last carry of `carry = step(carry, i, t, *coefficients of step i)` over all steps."""

  def body(carry, inputs):
    i, *rest = inputs
    carry = step(carry, i, *rest)
    if on_step is not None:
      jax.debug.callback(lambda i: on_step(int(i)), i)
    return carry, None

  inputs = (jnp.arange(len(times) - 1), times[:-1], *coefficients)
  return jax.lax.scan(body, carry, inputs)[0]
