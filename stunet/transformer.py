"""The attention of Stable Diffusion (Rombach et al., 2022, App. E.2.1): transformers of frames."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from core.typing import Bool, Float, Frames
from stunet.layers import Conv2D, Dense, GroupNorm, attend, split_heads, zeros

EPSILON = 1e-6  # of the norm before a transformer; that of all others is 1e-5


class Transformer(nn.Module):
  """A transformer of the pixels of a frame, which attend to the text too:

    h = proj_in(norm(x))
    h = block(h, text)    `depth` times
    y = x + proj_out(h)

  projection: whether proj_in and proj_out have the kernels of convolutions of size 1 or of dense
    layers.  The functions are the same; the stored weights are not.
  """

  head_features: int
  groups: int
  depth: int
  projection: str
  dtype: str

  @nn.compact
  def __call__(self, x: Frames, text: Float['b n d'], mask: Bool['b n']) -> Frames:
    (_, h, w, c), dtype = x.shape, self.dtype

    def project(name, x, **options):
      if self.projection == 'conv':
        return Conv2D(c, dtype, size=1, name=name, **options)(x)
      return Dense(c, dtype, name=name, **options)(x)

    y = project('proj_in', GroupNorm(self.groups, dtype, EPSILON, name='norm')(x))
    y = rearrange(y, 'b h w c -> b (h w) c')
    for i in range(self.depth):
      y = Block(self.head_features, dtype, name=f'block{i}')(y, text, mask)
    y = rearrange(y, 'b (h w) c -> b h w c', h=h, w=w)
    return x + project('proj_out', y, kernel_init=zeros)


class Block(nn.Module):
  """One block of a Transformer:

  x = x + self_attention(norm1(x))
  x = x + text_attention(norm2(x), text)
  x = x + feed_forward(norm3(x))
  """

  head_features: int
  dtype: str

  @nn.compact
  def __call__(
    self, x: Float['bt q c'], text: Float['b n d'], mask: Bool['b n']
  ) -> Float['bt q c']:
    norm1, norm2, norm3 = (
      nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=n) for n in ('norm1', 'norm2', 'norm3')
    )
    self_attention = SelfAttention(self.head_features, self.dtype, name='self_attention')
    text_attention = TextAttention(self.head_features, self.dtype, name='text_attention')
    feed_forward = FeedForward(self.dtype, name='feed_forward')

    x += self_attention(norm1(x))
    x += text_attention(norm2(x), text, mask)
    return x + feed_forward(norm3(x))


class SelfAttention(nn.Module):
  """proj(attend(query(x), key(x), value(x))), whose first three layers have no bias."""

  head_features: int
  dtype: str

  @nn.compact
  def __call__(self, x: Float['bt q c']) -> Float['bt q c']:
    c = x.shape[-1]
    query, key, value = (
      split_heads(Dense(c, self.dtype, add_bias=None, name=n)(x), self.head_features)
      for n in ('query', 'key', 'value')
    )
    return Dense(c, self.dtype, name='proj')(attend(query, key, value))


class TextAttention(nn.Module):
  """proj(attend(query(x), key(text), value(text))), whose first three layers have no bias.

  Where all tokens are masked, so are all values zero, of which attention returns the mean.
  """

  head_features: int
  dtype: str

  @nn.compact
  def __call__(
    self, x: Float['bt q c'], text: Float['b n d'], mask: Bool['b n']
  ) -> Float['bt q c']:
    c, t = x.shape[-1], len(x) // len(text)

    def project(name, x):
      return split_heads(Dense(c, self.dtype, add_bias=None, name=name)(x), self.head_features)

    # The text is the same in every frame: it is projected once for a clip, then repeated.
    text = jnp.where(mask[..., None], text, 0)  # b n d
    key, value = project('key', text), project('value', text)  # b n m k
    key, value, mask = (repeat(a, 'b n ... -> (b t) n ...', t=t) for a in (key, value, mask))
    return Dense(c, self.dtype, name='proj')(attend(project('query', x), key, value, mask))


class FeedForward(nn.Module):
  """dense2(a * gelu(gate)), a, gate = dense1(x): GEGLU (Shazeer, 2020), of width 4 c."""

  dtype: str

  @nn.compact
  def __call__(self, x: Float['bt q c']) -> Float['bt q c']:
    c = x.shape[-1]
    x, gate = jnp.split(Dense(8 * c, self.dtype, name='dense1')(x), 2, -1)
    return Dense(c, self.dtype, name='dense2')(x * jax.nn.gelu(gate, approximate=False))
