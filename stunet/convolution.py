"""Convolutions whose gradients a CPU computes about as fast as their results."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from core.typing import Float

# XLA's CPU backend contracts over many pixels slowly: one core computes the gradient of a kernel
# of 48 features on 320 frames of 16x16 pixels at 36 GFLOP/s, and at 90 in parts of 16 frames.  In
# parts of another number of frames than a multiple of four it may be as slow as 26.
# `python -m benchmarks.kernel_gradients` measures it.
PIXELS = 4096  # of a part
MOST_PARTS = 32  # parts are not a loop, in which XLA's CPU backend convolves 50 times more slowly


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
  """A value that is saved for the backward pass when it is traced."""

  value: Any


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def convolve(
  x: Float['b ... c'],
  kernel: Float['... c f'],
  strides: tuple[int, ...],
  padding: str | tuple[tuple[int, int], ...],
  layout: tuple[str, str, str],
) -> Float['b ... f']:
  """`jax.lax.conv_general_dilated` with the batch as the first axis and its own gradient.

  On a CPU, and without a mesh of several devices, the gradient of the kernel is the sum of those of
  parts of the batch.  Everywhere else it is computed as a whole.
  """
  return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


def _forward(x, kernel, *options):
  needed = x.perturbed, kernel.perturbed  # static: that of a frozen kernel is not
  return convolve(x.value, kernel.value, *options), (x.value, kernel.value, Static(needed))


def _backward(strides, padding, layout, saved, gradient):
  x, kernel, needed = saved
  of_x = of_kernel = None
  if isinstance(gradient, SymbolicZero):
    return of_x, of_kernel
  run = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=strides,
    padding=padding,
    dimension_numbers=layout,
  )

  def kernel_gradient(x, gradient):
    (of_kernel,) = jax.linear_transpose(lambda kernel: run(x, kernel), kernel)(gradient)
    return of_kernel

  def in_parts(x, gradient):
    parts = [slice(i, i + size) for i in range(0, len(x), size)]
    of_parts = [kernel_gradient(x[part], gradient[part]) for part in parts]
    # As a whole, the sum is in float32 whatever the type of its terms.
    total = functools.reduce(jnp.add, [part.astype(jnp.float32) for part in of_parts])
    return total.astype(kernel.dtype)

  of_x_needed, of_kernel_needed = needed.value
  if of_x_needed:
    (of_x,) = jax.linear_transpose(lambda x: run(x, kernel), x)(gradient)
  if of_kernel_needed:
    size = part_size(len(x), math.prod(gradient.shape[1:-1]))
    if size >= len(x) or jax.sharding.get_abstract_mesh().size > 1:
      of_kernel = kernel_gradient(x, gradient)
    else:
      of_kernel = jax.lax.platform_dependent(x, gradient, cpu=in_parts, default=kernel_gradient)
  return of_x, of_kernel


def part_size(batch: int, pixels: int) -> int:
  """How many of `batch` frames of so many pixels are in a part: a multiple of four."""
  fit = PIXELS // pixels // 4 * 4
  fewest = -(-batch // MOST_PARTS)
  return max(4, fit, -(-fewest // 4) * 4)


convolve.defvjp(_forward, _backward, symbolic_zeros=True)
