"""The training loss, and the distribution of the times at which it is computed."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from core.errors import UserError
from core.typing import Float, Time
from diffusion.process import Process

# The squared error of each, for a squared error of x0 of one, as a function of the SNR.
_ERRORS = {'x0': jnp.ones_like, 'v': lambda snr: 1 + snr, 'eps': lambda snr: snr}


def squared_error(
  process: Process,
  predicted: Float['b ... k'],
  x0: Float['b ... c'],
  t: Time,
  eps: Float['b ... c'],
) -> Float[' b']:
  """The mean squared error of a network's output for `process.corrupt(x0, t, eps)`, per example.

  A network with a learned variance outputs 2 c channels; only the first c, which are the
  prediction, contribute (L_simple of Improved DDPM, Nichol & Dhariwal 2021).
  """
  mean = predicted[..., : x0.shape[-1]].astype(jnp.float32)
  error = jnp.square(mean - process.target(x0, t, eps))
  return jnp.mean(error, axis=range(1, error.ndim))


def weights(
  process: Process, error: str = '', largest: float = 0.0
) -> Callable[[Time], Float[' b']]:
  """The weights of `squared_error` at given times.

  error: whose error the loss is, 'x0', 'v' or 'eps', whatever the network predicts; '' is that of
    the prediction.  A network may predict x0 and be trained on the error of v, which weighs little
    noise more (Li & He, 2025, "Back to basics").
  largest: the largest weight of the error of x0; 0 is no limit.  With 'eps' it is the gamma of
    min-SNR (Hang et al., 2023).

  ValueError for another name.
  """
  if error and error not in _ERRORS:
    raise UserError(f'loss.error is {error!r}; allowed are {", ".join(_ERRORS)}, and none.')
  if not (error or largest):
    return jnp.ones_like

  def weight(t):
    snr = jnp.exp(process.log_snr(t))
    wanted = _ERRORS[error or process.prediction](snr)
    return jnp.minimum(wanted, largest or jnp.inf) / _ERRORS[process.prediction](snr)

  return weight


def times(
  process: Process, high_noise: float = 1.0, mean: float = 0.0, std: float = 0.0
) -> Callable[[Float[' b']], Time]:
  """The distribution of the times of training, as the inverse of its cumulative distribution: from
  numbers in [0, 1) to times.

  It is Beta(high_noise, 1), which is uniform at 1 and favours high noise above 1.  With a `std` the
  log-SNR is normal, with this mean and standard deviation (EDM, Karras et al., 2022, Table 1), and
  lies within three standard deviations.
  """
  if not std:
    return lambda u: u ** (1 / high_noise)
  edge = jax.scipy.special.ndtr(3.0)
  # The log-SNR falls with time.
  return lambda u: process.time(mean + std * jax.scipy.special.ndtri(edge + (1 - 2 * edge) * u))


def less_noisy(process: Process, largest: float = 0.0) -> Callable[[Float[' b'], Time], Time]:
  """The times of the inputs of a network, from numbers in [0, 1) and the times on which the network
  is conditioned.

  For half of the numbers the two are the same.  For the others the log-SNR of the input is higher,
  by up to `largest`.

  All frames of a clip show nearly the same content, so that a clip of n frames says as much of it
  as one frame whose log-SNR is higher by log(n).  An image model that is to become a video model
  must draw what n frames show, conditioned on the time of each.

  UserError unless the network predicts x0.
  """
  if not largest:
    return lambda u, t: t
  if process.prediction != 'x0':  # v and eps are of the noise of the input, whose time is unknown
    raise UserError(f'less_noisy needs schedule.prediction=x0, and got {process.prediction}.')
  return lambda u, t: process.time(process.log_snr(t) + largest * jnp.maximum(2 * u - 1, 0))
