"""The training loss."""

import jax.numpy as jnp

from core.typing import Float, Time
from diffusion.process import Process


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
