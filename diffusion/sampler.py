"""Samplers take x_t at the first of some decreasing times to the last of them, usually 0.

With  h  half the growth of the log-SNR from time t to the next time s, all three have one form:

  x_s = keep sigma_s / sigma_t x_t  +  alpha_s (1 - keep exp(-h)) x_0  +  noise z,

x_0 being the denoiser's answer at t and z standard normal.  keep = 1 and noise = 0 is the
deterministic step (DDIM, Song et al. 2021, Eq. 12; it is also DPM-Solver++ of first order).

On Gaussian data of standard deviation d a deterministic step of first order loses a factor of
cos(angle), where the angle is how far it moves atan(sigma / (d alpha)); n steps from t = 1 to 0
cannot lose less than 1 - cos(pi / 2n)^n of the standard deviation, 1.9% for 64 steps.  Times that
are `even_angles` do so.  Of DDPM with the variance of the data only the last step, which draws no
noise, loses such a factor.

The second order of `dpmpp_2m` assumes that x_0 goes on changing with the log-SNR as it did in the
step before.  It is wrong where a step is many times as long as that, as the last ones of times that
are even or `leading` are: docs/sampling.md has the errors of each sampler with each spacing.
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
  """Times of evenly spaced steps of 1000, the last of which is the first of all, and then 0.

  So DeepFloyd IF is respaced; its time of step i is (i + 1) / 1000.  The first time is then below
  1, and x_t at it is noise alone.  With a `start` that is the first time, and the others are evenly
  spaced from there to the first of the thousand.  ValueError for over 1000 steps.
  """
  if not 1 <= steps <= 1000:
    raise UserError(f'Got {steps} steps; a model of 1000 has from 1 to as many.')
  if start is None:
    nonzero = (jnp.arange(steps)[::-1] * (1000 // steps) + 1) / 1000
  else:
    nonzero = jnp.linspace(start, jnp.minimum(start, 0.001), steps)
  return jnp.append(nonzero, 0.0)


def even_angles(
  process: Process, steps: int, start: float | Float[''] = 1.0, std: float = 0.5
) -> Times:
  """Times from `start` to 0 between which atan(sigma / (std alpha)) falls in even steps.

  No other times lose less with a first order sampler on Gaussian data of standard deviation `std`.
  Under every schedule DDIM then loses 1.9% in 64 steps; evenly spaced times lose 2.4% under
  the cosine schedule, and 5.3% under that shifted by -2.
  """
  grid = jnp.linspace(0.0, 1.0, 2**14 + 1)
  angle = jnp.arctan2(process.sigma(grid), std * process.alpha(grid))
  wanted = jnp.linspace(jnp.interp(start, grid, angle), angle[0], steps + 1)
  return jnp.interp(wanted, angle, grid).at[0].set(start)


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

  keys: of each video, b; what is drawn for one does not depend on the others.
  eta: 0 draws no noise; 1 is `ddpm` with the 'small' variance.
  on_step: called on the host with the number of each step, as it is done.
  """
  h = _half_growth(process, times)
  keep = jnp.sqrt(1 - eta**2 + eta**2 * jnp.exp(-2 * h))
  if not eta:
    return _first_order(denoiser, cond, xt, process, times, keep, keys, on_step)
  noise = eta * process.sigma(times[1:]) * jnp.sqrt(-jnp.expm1(-2 * h))
  drawn = lambda xt, learned, noise: noise
  return _first_order(denoiser, cond, xt, process, times, keep, keys, on_step, drawn, (noise,))


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

  keys: of each video, b.
  variance: of the step from t to s, given what it left behind is normal.  'small' is that of
    q(x_s | x_t, x_0), exact where the data is one point; 'large' that of q(x_t | x_s), exact where
    the data is N(0, 1) (Ho et al. 2020, Sec. 3.2).  A number d in [0, 1] is exact for N(0, d^2) and
    contains both: 0 and 1; videos in [-1, 1] have about 0.5.  'learned' is where between 'small'
    and 'large' the network says, from -1 to 1, in logarithms (Nichol & Dhariwal 2021, Eq. 15).  The
    step to t = 0 draws no noise.
  mask: 1 where x_0 is given, 0 where the denoiser predicts it, or between; None is 0 everywhere.
    The standard deviation d, or the exponent that the network predicts, is scaled by 1 - mask.
    Where x_0 is given the variance is 'small', with which x_t is N(alpha x_0, sigma^2) at every
    time.
  on_step: called on the host with the number of each step, as it is done.
  """
  learned = variance == 'learned'
  d = {'small': 0.0, 'large': 1.0, 'learned': 0.0}.get(variance, variance)
  if isinstance(d, str) or not 0 <= d <= 1:
    raise UserError(
      f'Unknown variance: {variance!r}.  Known: large, learned, small, a number in [0, 1].'
    )
  h = _half_growth(process, times)
  alpha, sigma = process.alpha(times), process.sigma(times)
  fresh = -jnp.expm1(-2 * h)
  small = jnp.where(times[1:] > 0, sigma[1:] * jnp.sqrt(fresh), 0.0)
  predicted = 1.0 if mask is None else 1 - mask
  if learned:
    # From 'small' to 'large', whose standard deviation is  sigma_t sqrt(fresh).
    of_step = small, sigma[:-1] / sigma[1:]

    def drawn(xt, learned, small, wider):
      return small * wider ** (predicted * (_required(learned, xt) + 1) / 2)

  else:
    left = d * sigma[:-1] / jnp.hypot(d * alpha[:-1], sigma[:-1])  # the std of x_0 given x_t
    of_step = small, jnp.where(times[1:] > 0, alpha[1:] * fresh * left, 0.0)

    def drawn(xt, learned, small, guessed):
      return jnp.hypot(small, predicted * guessed)

  keep = jnp.exp(-h)
  return _first_order(denoiser, cond, xt, process, times, keep, keys, on_step, drawn, of_step)


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

  The first step is of first order, and so is a step to t = 0, where the log-SNR is at its limit
  and its growth no longer a length.
  on_step: called on the host with the number of each step, as it is done.
  """
  h = _half_growth(process, times)
  before = jnp.concatenate([h[:1], h[:-1]])
  second_order = (jnp.arange(len(h)) > 0) & (times[1:] > 0) & (before > 0)
  weight = jnp.where(second_order, 0.5 * h / jnp.where(before > 0, before, 1.0), 0.0)
  of_xt, of_x0 = _coefficients(process, times, keep=jnp.ones_like(h))

  def step(carry, i, t, of_xt, of_x0, weight):
    xt, before = carry
    x0 = _denoise(denoiser, xt, t, cond)
    return of_xt * xt + of_x0 * (x0 + weight * (x0 - before)), x0

  xt = xt.astype(jnp.float32)
  return _scan(step, (xt, jnp.zeros_like(xt)), times, on_step, (of_xt, of_x0, weight))[0]


def draw(keys: Keys, step: Int[''], like: Video) -> Video:
  """The noise of one step, standard normal: of every video from its own key."""
  return jax.vmap(lambda k, x: jax.random.normal(jax.random.fold_in(k, step), x.shape))(keys, like)


def _first_order(
  denoiser, cond, xt, process, times, keep, keys, on_step, drawn=None, of_step=()
):  # fmt: skip
  """Takes the steps of this file's head, for the `keep` of each.

  drawn: the standard deviation of the noise of a step, `drawn(xt, learned, *of_step of it)`, where
    `learned` is what the denoiser says of it; None draws none.
  """

  def step(xt, i, t, of_xt, of_x0, *of_this):
    x0, learned = _answer(denoiser, xt, t, cond)
    mean = of_xt * xt + of_x0 * x0
    return mean + drawn(xt, learned, *of_this) * draw(keys, i, xt) if drawn else mean

  coefficients = (*_coefficients(process, times, keep), *of_step)
  return _scan(step, xt.astype(jnp.float32), times, on_step, coefficients)


def _coefficients(process, times, keep):
  """What multiplies x_t and x_0 in the steps of this file's head."""
  sigma = process.sigma(times)
  of_xt = keep * sigma[1:] / sigma[:-1]
  of_x0 = process.alpha(times[1:]) * (1 - keep * jnp.exp(-_half_growth(process, times)))
  return of_xt, of_x0


def _half_growth(process, times):
  if times.ndim != 1 or len(times) < 2:
    raise UserError(f'Times have the shape {times.shape}.  Allowed: (n,), n of 2 or more.')
  return jnp.diff(process.log_snr(times)) / 2


def _denoise(denoiser, xt, t, cond):
  return _answer(denoiser, xt, t, cond)[0]


def _answer(denoiser, xt, t, cond):
  """x_0, and what channels there are beside it."""
  answer = denoiser(xt, jnp.full(xt.shape[:1], t), cond).astype(jnp.float32)
  return answer[..., : xt.shape[-1]], answer[..., xt.shape[-1] :]


def _required(learned, xt):
  if learned.shape != xt.shape:
    raise UserError(
      f'A learned variance is of {xt.shape[-1]} channels beside those of x_0, but the network has '
      f'{learned.shape[-1]}: its out_channels are to be {2 * xt.shape[-1]}.'
    )
  return learned


def _scan(step, carry, times, on_step, coefficients):
  """What is left after `carry = step(carry, i, t, *coefficients of step i)` for every step."""

  def body(carry, inputs):
    i, *rest = inputs
    carry = step(carry, i, *rest)
    if on_step is not None:
      jax.debug.callback(lambda i: on_step(int(i)), i)
    return carry, None

  inputs = (jnp.arange(len(times) - 1), times[:-1], *coefficients)
  return jax.lax.scan(body, carry, inputs)[0]
