"""The Gaussian process  x_t = alpha(t) x_0 + sigma(t) eps  in continuous time, t in [0, 1].

It is variance preserving (alpha^2 + sigma^2 = 1), so that the log-SNR  log(alpha^2 / sigma^2)
determines both.  For accuracy alpha and sigma are each computed from it, and not one from the
other.  All computation is in float32.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from core.errors import UserError
from core.typing import Float, Time

# At a log-SNR of -20 alpha is far enough from zero to compute x0 from an eps prediction at t = 1
# (VDM, Kingma et al. 2021).  At 30, sigma is 3e-7: the noise at t = 0 is below the precision of
# float32, so that t = 0 needs no special case.
LOG_SNR_MIN, LOG_SNR_MAX = -20.0, 30.0

_PREDICTIONS = ('eps', 'v', 'x0')


@dataclasses.dataclass(frozen=True)
class Process:
  """A noise schedule and a parametrization of the network's prediction.

  schedule: 'cosine' (Nichol & Dhariwal 2021 in continuous time), 'linear' (DDPM, Ho et al. 2020),
    'discrete_cosine' (Nichol & Dhariwal 2021 in 1000 steps, as in DeepFloyd IF), 'scaled_linear'
    (Rombach et al. 2022, as in Stable Diffusion) or 'scaled_linear_zero_snr', that schedule
    rescaled to end in pure noise (Lin et al. 2023, Algorithm 1).  The former leaves a little of the
    mean of the data at t = 1, which all frames of a video share, so that a model cannot make very
    dark or bright videos; the latter is for training with v predictions, and for `even_times` in
    sampling, because the first step has to be at t = 1.  All but the first are tables of
    1000 steps.  Entry i is the log-SNR at t = (i + 1) / 1000, and the log-SNR at t = 0 is 30; in
    between, it is interpolated linearly.
  shift: added to the log-SNR; 2 log(64 / d) for images of size d (simple diffusion, Eq. 4).
  prediction: the output of the network: 'eps', 'x0' or 'v', which is alpha eps - sigma x0
    (Salimans & Ho 2022).
  """

  schedule: str = 'cosine'
  shift: float = 0.0
  prediction: str = 'v'

  def __post_init__(self):
    _require_choice('schedule', self.schedule, _SCHEDULES)
    _require_choice('prediction', self.prediction, _PREDICTIONS)

  def log_snr(self, t: Time) -> Time:
    """The log-SNR at times t in [0, 1]; it decreases, within [-20, 30]."""
    log_snr = _SCHEDULES[self.schedule](t.astype(jnp.float32)) + self.shift
    return jnp.clip(log_snr, LOG_SNR_MIN, LOG_SNR_MAX)

  def time(self, log_snr: Float[' b']) -> Time:
    """The times at which the log-SNR is this, or the nearest that there is; to 1e-4."""
    grid = jnp.linspace(0.0, 1.0, 2**14 + 1)
    return jnp.interp(-log_snr, -self.log_snr(grid), grid)

  def alpha(self, t: Time) -> Time:
    """The factor of x0 in x_t."""
    return jnp.exp(0.5 * jax.nn.log_sigmoid(self.log_snr(t)))

  def sigma(self, t: Time) -> Time:
    """The standard deviation of the noise in x_t."""
    return jnp.exp(0.5 * jax.nn.log_sigmoid(-self.log_snr(t)))

  def corrupt(self, x0: Float['b ...'], t: Time, eps: Float['b ...']) -> Float['b ...']:
    """x_t = alpha(t) x0 + sigma(t) eps."""
    x0, eps, alpha, sigma = self._float32_with_coefficients(t, x0, eps)
    return alpha * x0 + sigma * eps

  def target(self, x0: Float['b ...'], t: Time, eps: Float['b ...']) -> Float['b ...']:
    """The training target of a network whose input is `corrupt(x0, t, eps)`."""
    x0, eps, alpha, sigma = self._float32_with_coefficients(t, x0, eps)
    match self.prediction:
      case 'eps':
        return eps
      case 'v':
        return alpha * eps - sigma * x0
      case 'x0':
        return x0

  def x0_from(self, xt: Float['b ...'], t: Time, predicted: Float['b ...']) -> Float['b ...']:
    """The x0 that corresponds to a network's output `predicted`."""
    xt, predicted, alpha, sigma = self._float32_with_coefficients(t, xt, predicted)
    match self.prediction:
      case 'eps':
        return (xt - sigma * predicted) / alpha
      case 'v':
        return alpha * xt - sigma * predicted
      case 'x0':
        return predicted

  def eps_from(self, xt: Float['b ...'], t: Time, x0: Float['b ...']) -> Float['b ...']:
    """The noise with which x0 becomes x_t.  At t = 0 it is only rounding error."""
    xt, x0, alpha, sigma = self._float32_with_coefficients(t, xt, x0)
    return (xt - alpha * x0) / sigma

  def _float32_with_coefficients(self, t, a, b):
    """The two arrays in float32, and alpha and sigma broadcast to their shape."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return a, b, per_example(self.alpha(t), a), per_example(self.sigma(t), a)


def per_example(values: Float[' b'], like: Float['b ...']) -> Float['b ...']:
  """`values` with axes of size 1 appended, so that they broadcast over the axes of `like`."""
  return values.reshape(values.shape + (1,) * (like.ndim - 1))


def _cosine(t):
  # This is -2 log tan(pi t / 2), with the cosine as the sine of 1 - t, which is exact near t = 1.
  return 2 * (jnp.log(jnp.sin(jnp.pi / 2 * (1 - t))) - jnp.log(jnp.sin(jnp.pi / 2 * t)))


def _table(betas):
  """Returns the log-SNR as a function of time, for the betas of discrete steps."""
  log_alpha2 = np.cumsum(np.log1p(-betas))
  log_snr = log_alpha2 - np.log(-np.expm1(log_alpha2))
  times = np.float32(np.arange(len(betas) + 1) / len(betas))
  log_snr = np.float32([LOG_SNR_MAX, *log_snr])
  return lambda t: jnp.interp(t, times, log_snr)


def _zero_snr(betas):
  """The betas whose last step is pure noise, and whose first is the same (Lin et al. 2023,
  Algorithm 1).

  The last alpha is that of the least log-SNR, for zero has no logarithm.
  """
  alpha = np.sqrt(np.cumprod(1 - betas))
  alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
  alpha2 = np.append(1.0, np.maximum(alpha**2, 1 / (1 + np.exp(-LOG_SNR_MIN))))
  return 1 - alpha2[1:] / alpha2[:-1]


def _cosine_betas(steps=1000, largest=0.999):
  """The betas of the cosine schedule (Nichol & Dhariwal 2021, Eq. 17)."""
  alpha2 = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
  return np.minimum(1 - alpha2[1:] / alpha2[:-1], largest)


# Of Stable Diffusion (`scheduler_config.json` of its pipelines).
_SCALED_LINEAR = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2

_SCHEDULES = {
  'cosine': _cosine,
  'discrete_cosine': _table(_cosine_betas()),
  'linear': _table(np.linspace(1e-4, 0.02, 1000)),
  'scaled_linear': _table(_SCALED_LINEAR),
  'scaled_linear_zero_snr': _table(_zero_snr(_SCALED_LINEAR)),
}


def _require_choice(kind, name, allowed):
  if name not in allowed:
    raise UserError(f'Unknown {kind}: {name!r}.  Allowed: {", ".join(sorted(allowed))}.')
