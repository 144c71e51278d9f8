"""The blocks of the image model.  They process each frame on its own.

They are those of Imagen (Saharia et al., 2022) and of DeepFloyd IF, whose weights fit.  With
`embedding='add'`, ResBlock is that of Stable Diffusion, whose attention is in `transformer.py`.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, repeat

from core.typing import Bool, Float, Frames, Time
from stunet.layers import ACTIVATIONS, Conv2D, Dense, GroupNorm, attend, split_heads, zeros


def embed_time(t: Time, d: int) -> Float['b d']:
  """Sinusoidal embedding of 1000 t - 1: d / 2 cosines, then d / 2 sines.

  1000 t - 1 is the index of a step in models that are trained with 1000 steps.
  """
  frequencies = jnp.exp(-math.log(10_000) * jnp.arange(d // 2) / (d // 2))
  angles = jnp.outer(1000 * t.astype(jnp.float32) - 1, frequencies)
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


class TimeEmbedding(nn.Module):
  """dense2(act(dense1(embed_time(t)))) of a time in [0, 1], or of a noise level likewise."""

  frequencies: int
  features: int
  activation: str
  dtype: str

  @nn.compact
  def __call__(self, t: Time) -> Float['b d']:
    act = ACTIVATIONS[self.activation]
    dense1, dense2 = (Dense(self.features, self.dtype, name=n) for n in ('dense1', 'dense2'))
    return dense2(act(dense1(embed_time(t, self.frequencies))))


class AttentionPooling(nn.Module):
  """Pools the tokens of a text to one vector by attention (DeepFloyd IF).

  The mean token plus a learned vector is the only query; it and all tokens are keys and values.
  """

  features: int
  heads: int
  dtype: str

  @nn.compact
  def __call__(self, text: Float['b n d'], mask: Bool['b n']) -> Float['b f']:
    d = text.shape[-1]

    def project(name, x):
      return split_heads(Dense(d, self.dtype, name=name)(x), d // self.heads)

    norm_in, norm_out = (
      nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=n) for n in ('norm_in', 'norm_out')
    )
    proj = Dense(self.features, self.dtype, name='proj')

    x = norm_in(text)  # b n d
    weight = mask[..., None].astype(x.dtype)  # b n 1
    mean = (x * weight).sum(1, keepdims=True) / jnp.maximum(weight.sum(1, keepdims=True), 1)
    position = self.param('position', nn.initializers.normal(d**-0.5), (1, 1, d))
    query = mean + position.astype(x.dtype)  # b 1 d
    tokens = jnp.concatenate([query, x], 1)  # b n+1 d
    mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)  # b n+1
    key, value = project('key', tokens), project('value', tokens)  # b n+1 m k
    x = attend(project('query', query), key, value, mask)  # b 1 d
    return norm_out(proj(rearrange(x, 'b 1 d -> b d')))


class ResBlock(nn.Module):
  """A residual block which an embedding of each clip conditions:

    h = conv1(rescale(act(norm1(x))))
    h = conv2(act(norm2(h) * (1 + scale) + shift)),  scale, shift = dense(emb)
    y = (skip(rescale(x)) + h) * residual_scale

  That is `embedding='scale_shift'` (BigGAN; Imagen, App. B).  With 'add', the second line is

    h = conv2(act(norm2(h + dense(emb))))

  (Ho et al., 2020; Rombach et al., 2022).
  rescale: -1 halves the resolution by averaging, 0 keeps it, 1 doubles it by repetition.
  The skip is a convolution of size 1 where the number of features changes, else the identity.
  """

  features: int
  groups: int
  activation: str
  dtype: str
  residual_scale: float = 1.0
  rescale: int = 0
  embedding: str = 'scale_shift'

  @nn.compact
  def __call__(self, x: Frames, emb: Float['b d']) -> Float['bt h2 w2 f']:
    act = ACTIVATIONS[self.activation]
    norm1, norm2 = (GroupNorm(self.groups, self.dtype, name=n) for n in ('norm1', 'norm2'))
    conv1 = Conv2D(self.features, self.dtype, name='conv1')
    conv2 = Conv2D(self.features, self.dtype, kernel_init=zeros, name='conv2')
    adds = self.embedding == 'add'
    dense = Dense(self.features if adds else 2 * self.features, self.dtype, name='emb')

    emb = dense(repeat(emb, 'b d -> (b t) d', t=len(x) // len(emb)))
    h = conv1(self._rescaled(act(norm1(x))))
    h = norm2(h + emb[:, None, None]) if adds else norm2(h, *jnp.split(emb, 2, -1))
    h = conv2(act(h))
    x = self._rescaled(x)
    if x.shape[-1] != self.features:
      x = Conv2D(self.features, self.dtype, size=1, name='skip')(x)
    return (x + h) * self.residual_scale

  def _rescaled(self, x):
    if self.rescale < 0:
      return nn.avg_pool(x, (2, 2), (2, 2))
    return repeat(x, 'b h w c -> b (h 2) (w 2) c') if self.rescale > 0 else x


class Attention(nn.Module):
  """Attention from every pixel to the text, and if `joint` to all pixels of its frame as well:

    y = norm(x)
    x + proj(attend(query(y), [text_key(text), key(y)], [text_value(text), value(y)]))

  Without `joint`, keys and values are those of the text alone.
  """

  head_features: int
  groups: int
  joint: bool
  dtype: str

  @nn.compact
  def __call__(self, x: Frames, text: Float['b n d'], mask: Bool['b n']) -> Frames:
    (_, h, w, c), t = x.shape, len(x) // len(text)

    def project(name, x):
      return split_heads(Dense(c, self.dtype, name=name)(x), self.head_features)

    norm, norm_text = (GroupNorm(self.groups, self.dtype, name=n) for n in ('norm', 'norm_text'))
    proj = Dense(c, self.dtype, kernel_init=zeros, name='proj')

    # Masked tokens do not count in the statistics of the norm.  Where all of them are masked, all
    # count, as zeros, because there is no mean of nothing.
    counted = (mask | ~mask.any(-1, keepdims=True))[:, None]  # b 1 n
    text = jnp.where(mask[..., None], text, 0)[:, None]  # b 1 n d
    text = norm_text(text, mask=counted)[:, 0]  # b n d
    # The text is the same in every frame: it is projected once for a clip, then repeated.
    key, value = project('text_key', text), project('text_value', text)  # b n m k
    key, value, mask = (repeat(a, 'b n ... -> (b t) n ...', t=t) for a in (key, value, mask))

    y = rearrange(norm(x), 'b h w c -> b (h w) c')
    query = project('query', y)  # bt hw m k
    if self.joint:
      key = jnp.concatenate([key, project('key', y)], 1)  # bt n+hw m k
      value = jnp.concatenate([value, project('value', y)], 1)  # bt n+hw m k
      mask = jnp.pad(mask, ((0, 0), (0, h * w)), constant_values=True)  # bt n+hw
    else:
      # Where all tokens are masked, the result is zero and not the mean of all values.
      value = value * mask[..., None, None].astype(value.dtype)
    y = proj(attend(query, key, value, mask))  # bt hw c
    return x + rearrange(y, 'b (h w) c -> b h w c', h=h)
