"""The layers that the blocks of the image model and of the video model are made of.

Parameters are float32.  A layer casts its kernel and its input to `dtype`, in which it computes
products; the statistics of norms are float32.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, reduce, repeat

from core.typing import Bool, Float, Frames, Video
from stunet.convolution import convolve

ACTIVATIONS = {'gelu': lambda x: nn.gelu(x, approximate=False), 'silu': nn.silu}

Initializer = nn.initializers.Initializer
lecun_normal = nn.initializers.lecun_normal()
zeros = nn.initializers.zeros  # a residual branch that ends in zeros makes its block the identity


def per_frame(layer: Callable) -> Callable:
  """`layer`, a function of frames `(b t) h w c`, as a function of a video `b t h w c`.

  Time is folded into the batch, so that no frame depends on another.  Further arguments are passed
  on unchanged.
  """

  def apply(x: Video, *args) -> Float['b t h2 w2 f']:
    frames = layer(rearrange(x, 'b t h w c -> (b t) h w c'), *args)
    return rearrange(frames, '(b t) h w c -> b t h w c', b=len(x))

  return apply


def add_bias(x: Float['*s c'], bias: Float[' c']) -> Float['*s c']:
  """x + bias, in the dtype of x, in which the gradient of the bias is summed as well."""
  return x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + bias.shape)


@jax.custom_vjp
def add_bias_float32_grad(x: Float['*s c'], bias: Float[' c']) -> Float['*s c']:
  """x + bias, in the dtype of x.  The gradient of the bias is summed in float32."""
  return add_bias(x, bias)


def _add_bias_backward(bias, gradient):
  # A TPU sums rows fastest as a product with ones, which needs eight rows at least.
  ones = jnp.ones((8, *gradient.shape[:-1]), gradient.dtype)
  axes = range(gradient.ndim - 1)
  total = jnp.tensordot(
    ones, gradient, ([1 + i for i in axes], list(axes)),
    precision='highest', preferred_element_type=jnp.float32,
  )  # fmt: skip
  return gradient, total[0].astype(bias.dtype)


add_bias_float32_grad.defvjp(lambda x, bias: (add_bias(x, bias), bias), _add_bias_backward)


class Dense(nn.Module):
  """x @ kernel + bias, over the last axis."""

  features: int
  dtype: str
  kernel_init: Initializer = lecun_normal
  add_bias: Callable | None = add_bias  # None: the layer has no bias

  @nn.compact
  def __call__(self, x: Float['*s c']) -> Float['*s f']:
    kernel = self.param('kernel', self.kernel_init, (x.shape[-1], self.features))
    x = x.astype(self.dtype) @ kernel.astype(self.dtype)
    if self.add_bias is None:
      return x
    return self.add_bias(x, self.param('bias', zeros, (self.features,)))


class Conv2D(nn.Module):
  """A convolution over the pixels of each frame, beyond whose edges are zeros."""

  features: int
  dtype: str
  size: int = 3
  stride: int = 1
  kernel_init: Initializer = lecun_normal
  add_bias: Callable = add_bias
  # With a stride of 2, 'SAME' adds zeros after an even side alone, and torch on both sides.
  padding: str | tuple[tuple[int, int], ...] = 'SAME'

  @nn.compact
  def __call__(self, x: Frames) -> Float['bt h2 w2 f']:
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape)
    bias = self.param('bias', zeros, (self.features,))
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    strides = self.stride, self.stride
    x = convolve(x, kernel, strides, self.padding, ('NHWC', 'HWIO', 'NHWC'))
    return self.add_bias(x, bias)


class Kernel(nn.Module):
  """The kernel and the bias of a convolution, in a scope of their own."""

  shape: Sequence[int]
  init: Initializer

  @nn.compact
  def __call__(self) -> tuple[Float['...'], Float[' c']]:
    """Kernel and bias."""
    return self.param('kernel', self.init, self.shape), self.param('bias', zeros, self.shape[-1:])


class Conv1D(nn.Module):
  """A convolution over time whose kernel covers three frames.

  Before the first frame of a clip and after its last one, these two are repeated.  The result has
  every `stride`-th frame: 0, stride, 2 stride, ...  With `repeats`, every frame of the input counts
  as that many equal frames in a row.  These are not computed one by one: where taps of the kernel
  see the same frame, the taps are summed instead.

  Pixels are folded into the batch.  XLA runs that faster than a 2D convolution over `t (h w)` and
  than a 3D one of size (3, 1, 1), on TPUs and on CPUs.
  """

  dtype: str
  stride: int = 1
  repeats: int = 1
  kernel_init: Initializer = lecun_normal

  @nn.compact
  def __call__(self, x: Video) -> Float['b t2 h w c']:
    b, _, h, _, c = x.shape
    kernel, bias = Kernel((3, 1, c, c), self.kernel_init, name='conv')()
    x = jnp.concatenate([x[:, :1], x, x[:, -1:]], 1).astype(self.dtype)
    x, kernel = rearrange(x, 'b t h w c -> (b h w) t c'), kernel[:, 0].astype(self.dtype)

    conv = lambda x, kernel: convolve(x, kernel, (self.stride,), 'VALID', ('NWC', 'WIO', 'NWC'))
    if self.repeats == 1:
      x = conv(x, kernel)
    else:
      before, center, after = kernel
      first = conv(x[:, :-1], jnp.stack([before, center + after]))
      inner = [conv(x[:, 1:-1], (before + center + after)[None])] * (self.repeats - 2)
      last = conv(x[:, 1:], jnp.stack([before + center, after]))
      x = rearrange([first, *inner, last], 's n t c -> n (t s) c')
    x = add_bias_float32_grad(x, bias)
    return rearrange(x, '(b h w) t c -> b t h w c', b=b, h=h)


class GroupNorm(nn.Module):
  """Group normalisation of each frame (Wu & He, 2018), with a learned scale and shift.

  scale, shift: further ones, one vector for each frame: y (1 + scale) + shift.
  mask: true at the places that count for mean and variance; None is true everywhere.

  The mean of each channel is taken first, and the means of a group's channels are averaged after
  that: an axis of channels that fills the lanes of a TPU is never divided.
  """

  groups: int
  dtype: str
  epsilon: float = 1e-5

  @nn.compact
  def __call__(
    self,
    x: Frames,
    scale: Float['bt c'] | None = None,
    shift: Float['bt c'] | None = None,
    mask: Bool['bt h w'] | None = None,
  ) -> Frames:
    weight = self.param('scale', nn.initializers.ones, x.shape[-1:])
    bias = self.param('bias', zeros, x.shape[-1:])
    x = _group_norm(x, weight, bias, scale, shift, mask, self.groups, self.epsilon)
    return x.astype(self.dtype)


# Norms are most of a network's operations.  Under jit each shape of them is traced only once.
@functools.partial(jax.jit, static_argnames=('groups', 'epsilon'), inline=True)
def _group_norm(x, weight, bias, scale, shift, mask, groups: int, epsilon: float) -> Frames:
  x = x.astype(jnp.float32)
  mean, square = _group_mean(x, mask, groups), _group_mean(jnp.square(x), mask, groups)
  variance = jnp.maximum(square - jnp.square(mean), 0)
  factor, offset = weight[None] * jax.lax.rsqrt(variance + epsilon), bias[None]
  if scale is not None:
    factor, offset = factor * (1 + scale), offset * (1 + scale) + shift
  mean, factor, offset = (s[:, None, None] for s in (mean, factor, offset))
  return (x - mean) * factor + offset


def _group_mean(x: Frames, mask, groups: int) -> Float['bt c']:
  """For each channel, the mean of x over the channel's group."""
  mean = x.mean((1, 2), where=None if mask is None else mask[..., None])
  mean = reduce(mean, 'b (g k) -> b g', 'mean', g=groups)
  return repeat(mean, 'b g -> b (g k)', k=x.shape[-1] // groups)


def split_heads(x: Float['b n c'], head_features: int) -> Float['b n m k']:
  """The features of m heads, as an axis of their own."""
  return rearrange(x, 'b n (m k) -> b n m k', k=head_features)


def attend(
  query: Float['b q m k'],
  key: Float['b n m k'],
  value: Float['b n m k'],
  mask: Bool['b n'] | None = None,
) -> Float['b q c']:
  """Multi-head dot-product attention (Vaswani et al., 2017), with the heads concatenated again.

  A query does not attend to keys where the mask is false.  Where it is false for all keys, the
  result is the mean of all values.
  """
  mask = None if mask is None else mask[:, None, None]
  x = jax.nn.dot_product_attention(query, key, value, mask=mask)
  return rearrange(x, 'b q m k -> b q (m k)')


def pixel_unshuffle(x: Video, patch: int) -> Float['b t h2 w2 k']:
  """The video with the pixels of each patch as channels of one pixel."""
  return rearrange(x, 'b t (h p) (w q) c -> b t h w (p q c)', p=patch, q=patch)


def pixel_shuffle(x: Video, patch: int) -> Float['b t h2 w2 k']:
  """The inverse of `pixel_unshuffle`."""
  return rearrange(x, 'b t h w (p q c) -> b t (h p) (w q) c', p=patch, q=patch)
