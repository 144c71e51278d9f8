"""Convolution and pooling over time and space, padded as TensorFlow's SAME, fast on CPUs too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from core.typing import Float, Video

FEW = 8  # channels; kernels of fewer are faster with all their frames in one product


def convolve(x: Video, kernel: Float['kt kh kw c d'], stride: int = 1) -> Float['b t2 h2 w2 d']:
  """The convolution of a video.

  XLA's own for three axes takes twice as long on a CPU as those of frames which are summed over the
  kernel's.
  """
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(by_frames, stride=stride),
    default=functools.partial(at_once, stride=stride),
  )


def at_once(x: Video, kernel: Float['kt kh kw c d'], stride: int) -> Float['b t2 h2 w2 d']:
  """The same by XLA's convolution of three axes."""
  axes = ('NDHWC', 'DHWIO', 'NDHWC')
  return lax.conv_general_dilated(x, kernel, (stride,) * 3, 'SAME', dimension_numbers=axes)


def by_frames(x: Video, kernel: Float['kt kh kw c d'], stride: int) -> Float['b t2 h2 w2 d']:
  """The same as a sum of convolutions of two axes."""
  x = jnp.pad(x, _padding(1, x.shape[1], len(kernel), stride))
  taps = [_every(x, i, len(kernel), stride, axis=1) for i in range(len(kernel))]
  if x.shape[-1] < FEW:
    taps = [jnp.concatenate(taps, -1)]
    kernel = jnp.concatenate(list(kernel), -2)[None]
  return functools.reduce(jnp.add, (_of_frames(tap, k, stride) for tap, k in zip(taps, kernel)))


def _of_frames(x, kernel, stride):
  b, t = x.shape[:2]
  axes = ('NHWC', 'HWIO', 'NHWC')
  frames = x.reshape(b * t, *x.shape[2:])
  out = lax.conv_general_dilated(frames, kernel, (stride,) * 2, 'SAME', dimension_numbers=axes)
  return out.reshape(b, t, *out.shape[1:])


def max_pool(
  x: Video, window: tuple[int, int, int], stride: tuple[int, int, int]
) -> Float['b t2 h2 w2 c']:
  """The greatest in each window, of what is inside the video: one axis after the other."""
  for axis, (n, step) in enumerate(zip(window, stride), 1):
    if n == step == 1:
      continue
    x = jnp.pad(x, _padding(axis, x.shape[axis], n, step), constant_values=-jnp.inf)
    x = functools.reduce(jnp.maximum, (_every(x, i, n, step, axis) for i in range(n)))
  return x


def _every(x: jax.Array, first: int, window: int, step: int, axis: int) -> jax.Array:
  """What each window along an axis has at its place `first`."""
  last = x.shape[axis] - window + first
  return lax.slice_in_dim(x, first, last + 1, step, axis)


def _padding(axis: int, size: int, window: int, step: int) -> list[tuple[int, int]]:
  """SAME: so many windows as there are steps, the odd one of what is missing after the end."""
  missing = max((int(np.ceil(size / step)) - 1) * step + window - size, 0)
  pads = [(0, 0)] * 5
  pads[axis] = (missing // 2, missing - missing // 2)
  return pads
