"""A denoiser is a function  (x_t, t, condition) -> x_0.

Guidance, clipping and everything else that changes a prediction while sampling is a function from
denoiser to denoiser.

The output of a network with a learned variance (Nichol & Dhariwal 2021) has twice as many channels
as x_t: first those of the prediction, then those of the variance.  The functions here change only
the first; `ddpm` reads the others.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from core.condition import Condition
from core.typing import Float, Params, Time, Video
from diffusion.process import Process, per_example

Denoiser = Callable[[Video, Time, Condition], Video]


def network(apply: Callable, params: Params, process: Process) -> Denoiser:
  """The denoiser of a network whose prediction is `apply(params, xt, t, cond)`."""

  def denoise(xt, t, cond):
    return on_x0(lambda p: process.x0_from(xt, t, p), apply(params, xt, t, cond), xt)

  return denoise


def on_x0(
  change: Callable[[Video], Video], prediction: Float['b t h w k'], xt: Video
) -> Float['b t h w k']:
  """The prediction, with `change` applied to the channels of x_0: the first, as many as x_t has."""
  c = xt.shape[-1]
  if prediction.shape[-1] == c:
    return change(prediction)
  return jnp.concatenate([change(prediction[..., :c]), prediction[..., c:]], -1)


def guided(denoiser: Denoiser, scale: float) -> Denoiser:
  """The denoiser with classifier-free guidance (Ho & Salimans 2022) by `scale`.

  The predictions with and without text come from one call on a batch of 2 b.  For the same x_t
  and t, x0 is affine in eps and in v, so that guidance of x0 equals guidance of either.  With a
  scale of 1.0 the result is `denoiser` itself.
  """
  if scale == 1.0:
    return denoiser

  def denoise(xt, t, cond):
    # The two copies of an example are neighbours, so that a sharded batch stays on its devices.
    xt2, t2, cond2 = jax.tree.map(lambda a: jnp.repeat(a, 2, axis=0), (xt, t, cond))
    null = jnp.arange(len(t2)) % 2 == 1
    x0 = denoiser(xt2, t2, cond2.without_text(null))
    with_text, without = x0[0::2], x0[1::2, ..., : xt.shape[-1]]
    return on_x0(lambda x0: without + scale * (x0 - without), with_text, xt)

  return denoise


def clipped(denoiser: Denoiser, limit: float = 1.0) -> Denoiser:
  """The denoiser with its predictions of x0 clipped to [-limit, limit]."""
  clip = lambda x0: jnp.clip(x0, -limit, limit)
  return lambda xt, t, cond: on_x0(clip, denoiser(xt, t, cond), xt)


def dynamically_thresholded(
  denoiser: Denoiser, quantile: float = 0.995, cap: float = math.inf
) -> Denoiser:
  """The denoiser with dynamic thresholding (Imagen, Saharia et al. 2022, Sec. 2.3).

  s is the quantile of |x0| over each example, no less than 1 and no more than `cap`; x0 is clipped
  to [-s, s] and divided by s.
  """

  def threshold(x0):
    s = jnp.quantile(jnp.abs(x0), quantile, axis=tuple(range(1, x0.ndim)))
    s = per_example(jnp.clip(s, 1.0, cap), x0)
    return jnp.clip(x0, -s, s) / s

  return lambda xt, t, cond: on_x0(threshold, denoiser(xt, t, cond), xt)


def composited(denoiser: Denoiser) -> Denoiser:
  """The denoiser with the pixels of the condition's masked video in place of its own where the mask
  is 1."""
  return lambda xt, t, cond: on_x0(cond.composite, denoiser(xt, t, cond), xt)
