"""The Gaussian process  x_t = alpha(t) x_0 + sigma(t) eps  in continuous time, t in [0, 1].

It is variance preserving (alpha^2 + sigma^2 = 1), so that the log-SNR  log(alpha^2 / sigma^2)  says
everything; alpha and sigma are read from it, never from each other.  All algebra is float32.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from core.errors import UserError
from core.typing import Float, Time

# A log-SNR of -20 keeps alpha far enough from zero that x0 can be had from an eps prediction at
# t = 1 (VDM, Kingma et al. 2021).  At 30, sigma is 3e-7: noise at t = 0 is below what float32
# resolves, so that x_0 needs no special case.
LOG_SNR_MIN, LOG_SNR_MAX = -20.0, 30.0

_PREDICTIONS = ('eps', 'v', 'x0')


@dataclasses.dataclass(frozen=True)
class Process:
  """A noise schedule, and what a network is trained to predict under it.

  schedule: 'cosine' (Nichol & Dhariwal 2021 in continuous time), 'linear' (DDPM, Ho et al. 2020)
    or 'discrete_cosine' (Nichol & Dhariwal 2021 in 1000 steps, as DeepFloyd IF has it).  The latter
    two are tables of 1000 steps, whose entry i is read at t = (i + 1) / 1000; between entries, and
    from the clean end at t = 0 (log-SNR 30) to the first, the log-SNR is linear in t.
  shift: added to the log-SNR; 2 log(64 / d) for images of size d (simple diffusion, Eq. 4).
  prediction: 'eps', 'v' (alpha eps - sigma x0; Salimans & Ho 2022) or 'x0'.
  """

  schedule: str = 'cosine'
  shift: float = 0.0
  prediction: str = 'v'

  def __post_init__(self):
    _require_known('schedule', self.schedule, _SCHEDULES)
    _require_known('prediction', self.prediction, _PREDICTIONS)

  def log_snr(self, t: Time) -> Time:
    """The log-SNR at times t in [0, 1]: decreasing, in [-20, 30]."""
    log_snr = _SCHEDULES[self.schedule](t.astype(jnp.float32)) + self.shift
    return jnp.clip(log_snr, LOG_SNR_MIN, LOG_SNR_MAX)

  def alpha(self, t: Time) -> Time:
    """How much of x0 is left at t."""
    return jnp.exp(0.5 * jax.nn.log_sigmoid(self.log_snr(t)))

  def sigma(self, t: Time) -> Time:
    """The standard deviation of the noise at t."""
    return jnp.exp(0.5 * jax.nn.log_sigmoid(-self.log_snr(t)))

  def corrupt(self, x0: Float['b ...'], t: Time, eps: Float['b ...']) -> Float['b ...']:
    """x_t, which is x0 with the noise eps of time t."""
    x0, eps, alpha, sigma = self._at(t, x0, eps)
    return alpha * x0 + sigma * eps

  def target(self, x0: Float['b ...'], t: Time, eps: Float['b ...']) -> Float['b ...']:
    """What a network with this prediction should answer for `corrupt(x0, t, eps)`."""
    x0, eps, alpha, sigma = self._at(t, x0, eps)
    match self.prediction:
      case 'eps':
        return eps
      case 'v':
        return alpha * eps - sigma * x0
      case 'x0':
        return x0

  def x0_from(self, xt: Float['b ...'], t: Time, predicted: Float['b ...']) -> Float['b ...']:
    """The x0 which a network's answer `predicted` stands for."""
    xt, predicted, alpha, sigma = self._at(t, xt, predicted)
    match self.prediction:
      case 'eps':
        return (xt - sigma * predicted) / alpha
      case 'v':
        return alpha * xt - sigma * predicted
      case 'x0':
        return predicted

  def eps_from(self, xt: Float['b ...'], t: Time, x0: Float['b ...']) -> Float['b ...']:
    """The noise which makes x_t of x0.  Of no meaning at t = 0, where it is rounding alone."""
    xt, x0, alpha, sigma = self._at(t, xt, x0)
    return (xt - alpha * x0) / sigma

  def _at(self, t, a, b):
    """Two arrays in float32, and alpha and sigma shaped to multiply them."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return a, b, per_example(self.alpha(t), a), per_example(self.sigma(t), a)


def per_example(values: Float[' b'], like: Float['b ...']) -> Float['b ...']:
  """`values` shaped so that it multiplies arrays shaped as `like`, example by example."""
  return values.reshape(values.shape + (1,) * (like.ndim - 1))


def _cosine(t):
  # -2 log tan(pi t / 2).  The cosine is written as a sine of 1 - t, which is exact near t = 1.
  return 2 * (jnp.log(jnp.sin(jnp.pi / 2 * (1 - t))) - jnp.log(jnp.sin(jnp.pi / 2 * t)))


def _table(betas):
  """Returns the log-SNR as a function of time for betas of discrete steps."""
  log_alpha2 = np.cumsum(np.log1p(-betas))
  log_snr = log_alpha2 - np.log(-np.expm1(log_alpha2))
  at = np.arange(len(betas) + 1) / len(betas)
  at, log_snr = np.float32(at), np.float32([LOG_SNR_MAX, *log_snr])
  return lambda t: jnp.interp(t, at, log_snr)


def _cosine_betas(steps=1000, largest=0.999):
  """The betas of the cosine schedule (Nichol & Dhariwal 2021, Eq. 17)."""
  alpha2 = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
  return np.minimum(1 - alpha2[1:] / alpha2[:-1], largest)


_SCHEDULES = {
  'cosine': _cosine,
  'discrete_cosine': _table(_cosine_betas()),
  'linear': _table(np.linspace(1e-4, 0.02, 1000)),
}


def _require_known(what, name, known):
  if name not in known:
    raise UserError(f'Unknown {what}: {name!r}.  Known: {", ".join(sorted(known))}.')
