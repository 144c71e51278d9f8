"""A denoiser is a function  (x_t, t, condition) -> x_0.

All that is done to a network's answer while sampling is a function from denoiser to denoiser.

A network with a learned variance (Nichol & Dhariwal 2021) says something of it in as many channels
again.  They stay beside those of x_0, which alone are changed; `ddpm` reads them.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from core.condition import Condition
from core.given import Given
from core.typing import Float, Params, Time, Video
from diffusion.process import Process, per_example

Denoiser = Callable[[Video, Time, Condition], Video]


def network(apply: Callable, params: Params, process: Process) -> Denoiser:
  """The denoiser which a network is: `apply(params, xt, t, cond)` is what it predicts."""

  def denoise(xt, t, cond):
    return on_x0(lambda p: process.x0_from(xt, t, p), apply(params, xt, t, cond), xt)

  return denoise


def on_x0(
  change: Callable[[Video], Video], answer: Float['b t h w k'], xt: Video
) -> Float['b t h w k']:
  """The answer with its first channels changed, which are as many as x_t has."""
  c = xt.shape[-1]
  if answer.shape[-1] == c:
    return change(answer)
  return jnp.concatenate([change(answer[..., :c]), answer[..., c:]], -1)


def guided(denoiser: Denoiser, scale: float) -> Denoiser:
  """Classifier-free guidance (Ho & Salimans 2022) by `scale`.

  Both answers come from one call on a batch of 2 b.  The x0 of a given x_t and t is affine in eps
  and in v, so that guidance of x0 is guidance of either.  A scale of 1.0 is the denoiser itself.
  """
  if scale == 1.0:
    return denoiser

  def denoise(xt, t, cond):
    # Each example's two are neighbours: a batch spread over devices stays where it is.
    xt2, t2, cond2 = jax.tree.map(lambda a: jnp.repeat(a, 2, axis=0), (xt, t, cond))
    null = jnp.arange(len(t2)) % 2 == 1
    x0 = denoiser(xt2, t2, cond2.without_text(null))
    with_text, without = x0[0::2], x0[1::2, ..., : xt.shape[-1]]
    return on_x0(lambda x0: without + scale * (x0 - without), with_text, xt)

  return denoise


def clipped(denoiser: Denoiser, limit: float = 1.0) -> Denoiser:
  """The denoiser with its answers clipped to [-limit, limit]."""
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


def keeping(denoiser: Denoiser, given: Given) -> Denoiser:
  """The denoiser whose answer is what is given where that is known."""
  return lambda xt, t, cond: on_x0(given.kept, denoiser(xt, t, cond), xt)
