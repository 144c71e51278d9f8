"""Layers of the video model, inserted between those of the image model (Lumiere, Sec. 3.1, Fig. 4).

Every one is the identity at birth, or the nearest-neighbour resampling of frames (App. B).  Beyond
the ends of a clip, convolutions see its first and last frame repeated: what is static stays so.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from core.typing import Float, Video
from stunet.layers import ACTIVATIONS, GroupNorm, zeros

FRAME_FEATURES = 128  # of an embedding together with a frame's position


def identity(key, shape, dtype=jnp.float32):
  """An initialiser: the kernel of shape (k, 1, c, c) that copies its middle frame."""
  k, _, c, _ = shape
  return jnp.zeros(shape, dtype).at[k // 2, 0].set(jnp.eye(c, dtype=dtype))


@jax.custom_vjp
def biased(x: Float['*s c'], bias: Float[' c']) -> Float['*s c']:
  """The sum in the precision of x; what the bias has as its gradient is added up in float32."""
  return x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + bias.shape)


def _biased_backward(bias, gradient):
  # A TPU adds up rows fastest as a product, which has eight rows at least.
  ones = jnp.ones((8, *gradient.shape[:-1]), gradient.dtype)
  places = range(gradient.ndim - 1)
  total = jnp.tensordot(
    ones, gradient, ([1 + i for i in places], list(places)),
    precision='highest', preferred_element_type=jnp.float32,
  )  # fmt: skip
  return gradient, total[0].astype(bias.dtype)


biased.defvjp(lambda x, bias: (biased(x, bias), bias), _biased_backward)


class Kernel(nn.Module):
  """The parameters of a convolution or product that is written out."""

  shape: Sequence[int]
  init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self) -> tuple[Float['...'], Float[' c']]:
    """Kernel and bias."""
    return self.param('kernel', self.init, self.shape), self.param('bias', zeros, self.shape[-1:])


class Conv1D(nn.Module):
  """A convolution over time, of three frames.

  Every pixel is an example: XLA runs that faster than a 2D one over `t (h w)`, and than a 3D one of
  size (3, 1, 1), on TPUs and CPUs.  With `repeats` it is of a video of which every frame is there
  so often; that video is never made, for taps that would see the same frame are added up.
  """

  dtype: str
  stride: int = 1
  repeats: int = 1
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: Video) -> Float['b t2 h w c']:
    b, _, h, _, c = x.shape
    kernel, bias = Kernel((3, 1, c, c), self.kernel_init, name='conv')()
    x = jnp.concatenate([x[:, :1], x, x[:, -1:]], 1).astype(self.dtype)
    x, kernel = rearrange(x, 'b t h w c -> (b h w) t c'), kernel[:, 0].astype(self.dtype)

    def convolved(x, kernel):
      layout = ('NWC', 'WIO', 'NWC')
      return jax.lax.conv_general_dilated(
        x, kernel, (self.stride,), 'VALID', dimension_numbers=layout
      )

    if self.repeats == 1:
      x = convolved(x, kernel)
    else:
      before, here, after = kernel
      first = convolved(x[:, :-1], jnp.stack([before, here + after]))
      within = [convolved(x[:, 1:-1], (before + here + after)[None])] * (self.repeats - 2)
      last = convolved(x[:, 1:], jnp.stack([before + here, after]))
      x = rearrange([first, *within, last], 's n t c -> n (t s) c')
    return rearrange(biased(x, bias), '(b h w) t c -> b t h w c', b=b, h=h)


class Modulation(nn.Module):
  """Scales and shifts by an embedding and the place in time and space.

  The image model does it by the embedding alone (its residual blocks).  Here a word for a motion
  can mean another place in every frame, even where all that is seen is noise.  The paper shows no
  such conditioning.
  """

  waves: int  # cosines along each side of a frame that make scale and shift; 1 is the same for all
  frame_step: float
  activation: str
  dtype: str

  @nn.compact
  def __call__(self, x: Video, emb: Float['b d']) -> Video:
    _, t, h, w, c = x.shape
    places = cosines(self.waves, h, w).astype(self.dtype)
    frames = frame_positions(t, FRAME_FEATURES, self.frame_step).astype(self.dtype)
    frames = nn.Dense(FRAME_FEATURES, use_bias=False, dtype=self.dtype, name='frames')(frames)
    emb = ACTIVATIONS[self.activation](emb)
    emb = nn.Dense(FRAME_FEATURES, dtype=self.dtype, name='emb')(emb)
    emb = emb[:, None] * frames[None]  # a product: what a word does depends on the frame
    emb = nn.Dense(2 * len(places) * c, dtype=self.dtype, name='places')(emb)
    emb = rearrange(emb, 'b t (k c) -> b t k c', k=len(places))
    scale, shift = jnp.split(jnp.einsum('btkc,khw->bthwc', emb, places), 2, -1)
    return x * (1 + scale) + shift


class TemporalConv(nn.Module):
  """Convolution-based inflation (Fig. 4b): 2D conv, 1D conv, zero projection, on top of the input.

  Norms are taken over each frame alone: a frame's features do not depend on the clip's length.
  An embedding, where there is one, modulates the second norm, as it does in the image model, and
  what is added is measured in the magnitude of what it is added to.
  """

  groups: int
  activation: str
  dtype: str
  frame_step: float = 1.0

  @nn.compact
  def __call__(self, x: Video, emb: Float['b d'] | None = None) -> Video:
    (b, t, _, _, c), activation = x.shape, ACTIVATIONS[self.activation]

    def norm(x, name):
      x = rearrange(x, 'b t h w c -> (b t) h w c')
      x = GroupNorm(self.groups, self.dtype, name=name)(x)
      return rearrange(x, '(b t) h w c -> b t h w c', b=b)

    h = rearrange(x, 'b t h w c -> (b t) h w c')
    kernel, bias = Kernel((3, 3, c, c), name='conv2d')()
    h = jax.lax.conv_general_dilated(
      h.astype(self.dtype),
      kernel.astype(self.dtype),
      (1, 1),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    h = biased(h, bias)
    h = activation(norm(rearrange(h, '(b t) h w c -> b t h w c', t=t), 'norm1'))
    h = norm(Conv1D(self.dtype, name='conv1d')(h), 'norm2')
    if emb is not None:
      h = Modulation(3, self.frame_step, self.activation, self.dtype, name='modulation')(h, emb)
    kernel, bias = Kernel((c, c), zeros, name='proj')()
    h = biased(activation(h) @ kernel.astype(self.dtype), bias)
    return x + (h if emb is None else magnitude(x) * h)


class TemporalAttention(nn.Module):
  """Attention-based inflation (Fig. 4c): every pixel attends to itself in all frames.

  An embedding, where there is one, modulates the norm, and what is added is measured in the
  magnitude of what it is added to.
  """

  head_features: int
  groups: int
  activation: str
  dtype: str
  frame_step: float = 1.0

  @nn.compact
  def __call__(self, x: Video, emb: Float['b d'] | None = None) -> Video:
    b, t, h, w, c = x.shape
    y = rearrange(x, 'b t h w c -> (b t) h w c')
    y = GroupNorm(self.groups, self.dtype, name='norm')(y)
    y = rearrange(y, '(b t) h w c -> b t h w c', b=b)
    if emb is not None:
      y = Modulation(1, self.frame_step, self.activation, self.dtype, name='modulation')(y, emb)
    positions = frame_positions(t, c, self.frame_step)
    y = rearrange(y, 'b t h w c -> (b h w) t c') + positions[None].astype(y.dtype)

    def project(name):
      z = nn.Dense(c, dtype=self.dtype, name=name)(y)
      return rearrange(z, 'n t (m k) -> n t m k', k=self.head_features)

    y = jax.nn.dot_product_attention(project('query'), project('key'), project('value'))
    y = rearrange(y, '(b h w) t m k -> b t h w (m k)', b=b, h=h, w=w)
    y = nn.Dense(c, kernel_init=zeros, dtype=self.dtype, name='proj')(y)
    return x + (y if emb is None else magnitude(x) * y)


class TemporalDown(nn.Module):
  """Convolution that starts as the identity, keeping every second frame: 0, 2, 4, ..."""

  stride: int
  dtype: str

  @nn.compact
  def __call__(self, x: Video) -> Float['b t2 h w c']:
    return Conv1D(self.dtype, self.stride, kernel_init=identity, name='conv1d')(x)


class TemporalUp(nn.Module):
  """Every frame twice, then a convolution that starts as the identity."""

  stride: int
  dtype: str

  @nn.compact
  def __call__(self, x: Video) -> Float['b t2 h w c']:
    return Conv1D(self.dtype, repeats=self.stride, kernel_init=identity, name='conv1d')(x)


def magnitude(x: Video) -> Float['b t 1 1 1']:
  """The root mean square of each frame.

  What an image model adds up in its residual blocks can grow to a hundred times what a layer at
  birth puts out (Karras et al., 2024, Sec. 2), and a layer that starts from zero beside it would
  have to grow as much before it is heard.
  """
  square = jnp.square(x.astype(jnp.float32)).mean((2, 3, 4), keepdims=True)
  return jnp.sqrt(square + 1e-8).astype(x.dtype)


def frame_positions(t: int, d: int, step: float = 1.0) -> Float['t d']:
  """Sinusoidal encoding of the frames' indices (Vaswani et al., 2017), for any number of frames.

  step: by which the index grows from frame to frame.
  """
  frequencies = jnp.exp(-math.log(10_000) * jnp.arange(d // 2) / (d // 2))
  angles = jnp.outer(step * jnp.arange(t, dtype=jnp.float32), frequencies)
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def cosines(n: int, h: int, w: int) -> Float['k h w']:
  """Products of n cosines down and n across a frame, whose squares add up to one on average."""
  along = lambda size: jnp.cos(jnp.pi * jnp.outer(jnp.arange(n), (jnp.arange(size) + 0.5) / size))
  places = rearrange(along(h), 'i h -> i 1 h 1') * rearrange(along(w), 'j w -> 1 j 1 w')
  return rearrange(places, 'i j h w -> (i j) h w') * (2 / (1 + n))
