"""Layers of the image model.  They see frames, never time.

The vocabulary is that of Imagen (Saharia et al., 2022) and of DeepFloyd IF, whose weights fit.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, reduce, repeat

from core.typing import Bool, Float, Frames, Time

ACTIVATIONS = {'gelu': lambda x: nn.gelu(x, approximate=False), 'silu': nn.silu}

# A residual branch that starts at zero leaves its block the identity.
zeros = nn.initializers.zeros


def embed_time(t: Time, d: int) -> Float['b d']:
  """The cosines, then the sines, of 1000 t - 1, which is the index of a step in models of 1000."""
  frequencies = jnp.exp(-math.log(10_000) * jnp.arange(d // 2) / (d // 2))
  angles = jnp.outer(1000 * t.astype(jnp.float32) - 1, frequencies)
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


class TimeEmbedding(nn.Module):
  """Embeds a time in [0, 1]: the video's own, or the one at which its condition was noised."""

  frequencies: int
  features: int
  activation: str
  dtype: str

  @nn.compact
  def __call__(self, t: Time) -> Float['b d']:
    x = embed_time(t, self.frequencies).astype(self.dtype)
    x = nn.Dense(self.features, dtype=self.dtype, name='dense1')(x)
    return nn.Dense(self.features, dtype=self.dtype, name='dense2')(ACTIVATIONS[self.activation](x))


class GroupNorm(nn.Module):
  """Normalises groups of channels in every frame, then scales and shifts, as is learned and given.

  Wu & He (2018).  Channels are summed over a frame each, and brought together in groups after that:
  an axis of channels that fills the lanes of a TPU is never divided.
  """

  groups: int
  dtype: str

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
    return _normed(x, weight, bias, scale, shift, mask, self.groups).astype(self.dtype)


# Of all that a network is made of these are the most operations; a shape of them is traced once.
@functools.partial(jax.jit, static_argnames='groups', inline=True)
def _normed(x, weight, bias, scale, shift, mask, groups: int) -> Frames:
  x = x.astype(jnp.float32)
  mean, square = _of_groups(x, mask, groups), _of_groups(jnp.square(x), mask, groups)
  variance = jnp.maximum(square - jnp.square(mean), 0)
  factor, offset = weight[None] * jax.lax.rsqrt(variance + 1e-5), bias[None]
  if scale is not None:
    factor, offset = factor * (1 + scale), offset * (1 + scale) + shift
  mean, factor, offset = (s[:, None, None] for s in (mean, factor, offset))
  return (x - mean) * factor + offset


def _of_groups(x: Frames, mask, groups: int) -> Float['bt c']:
  """Of each channel the mean over its group."""
  each = x.mean((1, 2), where=None if mask is None else mask[..., None])
  found = reduce(each, 'b (g k) -> b g', 'mean', g=groups)
  return repeat(found, 'b g -> b (g k)', k=x.shape[-1] // groups)


class AttentionPooling(nn.Module):
  """Pools the text to one vector: the mean token asks, itself and all tokens answer."""

  features: int
  heads: int
  dtype: str

  @nn.compact
  def __call__(self, text: Float['b n d'], mask: Bool['b n']) -> Float['b f']:
    d = text.shape[-1]
    x = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name='norm_in')(text)
    weight = mask[..., None].astype(x.dtype)
    mean = (x * weight).sum(1, keepdims=True) / jnp.maximum(weight.sum(1, keepdims=True), 1)
    position = self.param('position', nn.initializers.normal(d**-0.5), (1, 1, d))
    query = mean + position.astype(x.dtype)
    tokens = jnp.concatenate([query, x], 1)
    mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)

    def project(x, name):
      x = nn.Dense(d, dtype=self.dtype, name=name)(x)
      return rearrange(x, 'b n (m k) -> b n m k', m=self.heads)

    x = jax.nn.dot_product_attention(
      project(query, 'query'), project(tokens, 'key'), project(tokens, 'value'),
      mask=mask[:, None, None],
    )  # fmt: skip
    x = nn.Dense(self.features, dtype=self.dtype, name='proj')(x.reshape(len(x), d))
    return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name='norm_out')(x)


class ResBlock(nn.Module):
  """(norm, activation, conv) twice; the embedding scales and shifts before the second activation.

  `rescale` is -1, 0 or 1: halve the resolution by averaging, keep it, or double it by repetition,
  before the first conv (BigGAN; Imagen, App. B).
  """

  features: int
  groups: int
  activation: str
  dtype: str
  residual_scale: float = 1.0
  rescale: int = 0

  @nn.compact
  def __call__(self, x: Frames, emb: Float['bt d']) -> Float['bt h2 w2 f']:
    activation = ACTIVATIONS[self.activation]

    def rescaled(x):
      if self.rescale < 0:
        return nn.avg_pool(x, (2, 2), (2, 2))
      return repeat(x, 'b h w c -> b (h 2) (w 2) c') if self.rescale > 0 else x

    h = rescaled(activation(self._norm('norm1')(x)))
    h = self._conv('conv1')(h)
    emb = nn.Dense(2 * self.features, dtype=self.dtype, name='emb')(emb)
    h = activation(self._norm('norm2')(h, *jnp.split(emb, 2, -1)))
    h = self._conv('conv2', kernel_init=zeros)(h)
    x = rescaled(x)
    if x.shape[-1] != self.features:
      x = nn.Conv(self.features, (1, 1), dtype=self.dtype, name='skip')(x)
    return (x + h) * self.residual_scale

  def _norm(self, name):
    return GroupNorm(self.groups, self.dtype, name=name)

  def _conv(self, name, **kwargs):
    return nn.Conv(self.features, (3, 3), dtype=self.dtype, name=name, **kwargs)


class Attention(nn.Module):
  """Attends from every pixel to the text, and with `joint` to the frame's own pixels beside it."""

  head_features: int
  groups: int
  joint: bool
  dtype: str

  @nn.compact
  def __call__(self, x: Frames, text: Float['b n d'], mask: Bool['b n']) -> Frames:
    (bt, h, w, c), t = x.shape, len(x) // len(text)

    def project(x, name):
      x = nn.Dense(c, dtype=self.dtype, name=name)(x)
      return rearrange(x, 'b n (m k) -> b n m k', k=self.head_features)

    # The norm is over all tokens: one that is masked must not be heard there, nor be counted.
    # Where none is left, there is nothing to normalise: zeros, which no query will see either.
    counted = (mask | ~mask.any(-1, keepdims=True))[:, None]
    text = jnp.where(mask[..., None], text, 0)[:, None]
    text = GroupNorm(self.groups, self.dtype, name='norm_text')(text, mask=counted)[:, 0]
    # The text is the same in every frame: projected once for a clip, then repeated.
    key, value = (
      repeat(project(text, name), 'b n m k -> (b t) n m k', t=t)
      for name in ('text_key', 'text_value')
    )
    mask = repeat(mask, 'b n -> (b t) n', t=t)

    y = GroupNorm(self.groups, self.dtype, name='norm')(x).reshape(bt, h * w, c)
    query = project(y, 'query')
    if self.joint:
      key = jnp.concatenate([key, project(y, 'key')], 1)
      value = jnp.concatenate([value, project(y, 'value')], 1)
      mask = jnp.pad(mask, ((0, 0), (0, h * w)), constant_values=True)
    else:
      # Text alone may be empty; attending to nothing must give zero, not the mean of all values.
      value = value * mask[..., None, None].astype(value.dtype)
    y = jax.nn.dot_product_attention(query, key, value, mask=mask[:, None, None])
    y = nn.Dense(c, kernel_init=zeros, dtype=self.dtype, name='proj')(y.reshape(bt, h * w, c))
    return x + y.reshape(x.shape)
