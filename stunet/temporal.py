"""The temporal blocks of the video model, inserted between the spatial ones of the image model
(Lumiere, Sec. 3.1, Fig. 4).

At initialisation every block is the identity, or the nearest-neighbour resampling of frames
(App. B).  Convolutions over time repeat the first and the last frame of a clip beyond its ends, so
that a static clip stays static.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange

from core.typing import Float, Video
from stunet.layers import (
  ACTIVATIONS,
  Conv1D,
  Conv2D,
  Dense,
  GroupNorm,
  add_bias_float32_grad,
  attend,
  per_frame,
  split_heads,
  zeros,
)

EMBEDDING_FEATURES = 128  # of the product of an embedding and a frame's position


def identity(key, shape, dtype=jnp.float32):
  """An initialiser: the kernel of shape (k, 1, c, c) that copies its middle frame."""
  k, _, c, _ = shape
  return jnp.zeros(shape, dtype).at[k // 2, 0].set(jnp.eye(c, dtype=dtype))


class Modulation(nn.Module):
  """x (1 + scale) + shift, by an embedding, the index of a frame and the place in the frame:

    e = dense_emb(act(emb)) * dense_frames(frame_positions)   for each frame
    scale, shift = sum over k of dense_places(e)[k] * cosines[k]

  The image model modulates its residual blocks by the embedding alone.  In a video, a word for a
  motion can mean a different place in every frame, and must do so even where the input is pure
  noise.  The paper shows no such conditioning.
  """

  waves: int  # cosines along each side of a frame; with 1, scale and shift are the same everywhere
  frame_step: int
  activation: str
  dtype: str

  @nn.compact
  def __call__(self, x: Video, emb: Float['b d']) -> Video:
    (_, t, h, w, c), d = x.shape, EMBEDDING_FEATURES
    act = ACTIVATIONS[self.activation]
    places = cosines(self.waves, h, w).astype(self.dtype)  # k h w
    frames = frame_positions(t, d, self.frame_step)  # t d
    frames = Dense(d, self.dtype, add_bias=None, name='frames')(frames)  # t d
    emb = Dense(d, self.dtype, name='emb')(act(emb))  # b d
    emb = emb[:, None] * frames[None]  # b t d: the effect of a word depends on the frame
    emb = Dense(2 * len(places) * c, self.dtype, name='places')(emb)  # b t (k 2c)
    emb = rearrange(emb, 'b t (k c) -> b t k c', k=len(places))
    scale, shift = jnp.split(jnp.einsum('btkc,khw->bthwc', emb, places), 2, -1)
    return x * (1 + scale) + shift


class TemporalConv(nn.Module):
  """Convolution-based inflation (Fig. 4b):

    h = act(norm1(conv2d(x)))
    h = norm2(conv1d(h))
    y = x + proj(act(h))

  Norms are taken over each frame alone, so that the features of a frame do not depend on the length
  of the clip.  With an embedding, h is modulated after norm2, as it is in the image model, and the
  residual is scaled by the input's per-frame RMS.
  """

  groups: int
  activation: str
  dtype: str
  frame_step: int = 1

  @nn.compact
  def __call__(self, x: Video, emb: Float['b d'] | None = None) -> Video:
    c, act, bias = x.shape[-1], ACTIVATIONS[self.activation], add_bias_float32_grad
    conv2d = per_frame(Conv2D(c, self.dtype, add_bias=bias, name='conv2d'))
    norm1, norm2 = (
      per_frame(GroupNorm(self.groups, self.dtype, name=n)) for n in ('norm1', 'norm2')
    )
    conv1d = Conv1D(self.dtype, name='conv1d')
    proj = Dense(c, self.dtype, kernel_init=zeros, add_bias=bias, name='proj')

    h = act(norm1(conv2d(x)))
    h = norm2(conv1d(h))
    if emb is None:
      return x + proj(act(h))
    modulate = Modulation(3, self.frame_step, self.activation, self.dtype, name='modulation')
    return x + frame_rms(x) * proj(act(modulate(h, emb)))


class TemporalAttention(nn.Module):
  """Attention-based inflation (Fig. 4c), in which every pixel attends to itself in all frames:

    h = norm(x) + positions
    y = x + proj(attend(query(h), key(h), value(h)))

  With an embedding, norm(x) is modulated, and the residual is scaled by the input's per-frame RMS.
  """

  head_features: int
  groups: int
  activation: str
  dtype: str
  frame_step: int = 1

  @nn.compact
  def __call__(self, x: Video, emb: Float['b d'] | None = None) -> Video:
    b, t, h, _, c = x.shape
    norm = per_frame(GroupNorm(self.groups, self.dtype, name='norm'))
    proj = Dense(c, self.dtype, kernel_init=zeros, name='proj')

    def project(name, x):
      return split_heads(Dense(c, self.dtype, name=name)(x), self.head_features)

    y = norm(x)
    if emb is not None:
      y = Modulation(1, self.frame_step, self.activation, self.dtype, name='modulation')(y, emb)
    positions = frame_positions(t, c, self.frame_step).astype(y.dtype)
    y = rearrange(y, 'b t h w c -> (b h w) t c') + positions[None]
    y = attend(project('query', y), project('key', y), project('value', y))
    y = proj(rearrange(y, '(b h w) t c -> b t h w c', b=b, h=h))
    return x + (y if emb is None else frame_rms(x) * y)


class TemporalDown(nn.Module):
  """Temporal downsampling: frames 0, stride, 2 stride, ... of a convolution over time.

  At initialisation the convolution is the identity.
  """

  stride: int
  dtype: str

  @nn.compact
  def __call__(self, x: Video) -> Float['b t2 h w c']:
    return Conv1D(self.dtype, self.stride, kernel_init=identity, name='conv1d')(x)


class TemporalUp(nn.Module):
  """Temporal upsampling: every frame is repeated `stride` times, then convolved over time.

  At initialisation the convolution is the identity.
  """

  stride: int
  dtype: str

  @nn.compact
  def __call__(self, x: Video) -> Float['b t2 h w c']:
    return Conv1D(self.dtype, repeats=self.stride, kernel_init=identity, name='conv1d')(x)


def frame_rms(x: Video) -> Float['b t 1 1 1']:
  """The root mean square of each frame.

  The sum of an image model's residual blocks can grow to a hundred times the output of a newly
  initialised layer (Karras et al., 2024, Sec. 2).  Without this scale, a layer that starts from
  zero would have to grow as much before it has an effect.
  """
  square = jnp.square(x.astype(jnp.float32)).mean((2, 3, 4), keepdims=True)
  return jnp.sqrt(square + 1e-8).astype(x.dtype)


def frame_positions(t: int, d: int, step: int = 1) -> Float['t d']:
  """Sinusoidal encoding of the indices of frames (Vaswani et al., 2017), for any number of frames.

  step: the difference between the indices of adjacent frames.
  """
  frequencies = jnp.exp(-math.log(10_000) * jnp.arange(d // 2) / (d // 2))
  angles = jnp.outer(step * jnp.arange(t, dtype=jnp.float32), frequencies)
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def cosines(n: int, h: int, w: int) -> Float['k h w']:
  """The n^2 products of n cosines along the height and n along the width of a frame.

  Places are relative to the frame: the cosines are stretched with it, so that frames of another
  size and shape than those of training have the same left, right, top and bottom.  They are scaled
  so that their squares, summed over k, average to one.
  """
  along = lambda size: jnp.cos(jnp.pi * jnp.outer(jnp.arange(n), (jnp.arange(size) + 0.5) / size))
  places = rearrange(along(h), 'i h -> i 1 h 1') * rearrange(along(w), 'j w -> 1 j 1 w')
  return rearrange(places, 'i j h w -> (i j) h w') * (2 / (1 + n))
