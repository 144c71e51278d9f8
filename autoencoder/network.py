"""The autoencoder of latent diffusion (Rombach et al., 2022, App. G), which maps frames to latents.

It is AutoencoderKL of diffusers.  Each frame is encoded and decoded by itself.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from core.typing import Float, Frames

EPSILON = 1e-6  # of every norm
SAME = ((1, 1), (1, 1))
# Zeros follow the last row and column, and none precede the first, as in the original code.
HALVED = ((0, 1), (0, 1))


class Autoencoder(nn.Module):
  """An encoder to the moments of latents, and a decoder from latents to frames.

  Parameters are float32.  Statistics of norms and softmax are float32 whatever `dtype` is.
  """

  channels: Sequence[int] = (128, 256, 512, 512)  # of each level, from the finest
  units: int = 2  # residual blocks of a level of the encoder; the decoder has one more
  latent_channels: int = 4
  groups: int = 32  # of every norm
  scaling: float = 0.18215  # 1 / the standard deviation of the sampled latents of training data
  dtype: str = 'float32'  # of convolutions and products

  def setup(self):
    """The two networks, and the 1x1 convolutions between them."""
    sizes = self.channels, self.units, self.groups, self.dtype
    conv = lambda features, name: nn.Conv(features, (1, 1), dtype=self.dtype, name=name)
    self.encoder = _Encoder(2 * self.latent_channels, *sizes, name='encoder')
    self.decoder = _Decoder(3, *sizes, name='decoder')
    self.quant = conv(2 * self.latent_channels, 'quant')
    self.post_quant = conv(self.latent_channels, 'post_quant')

  @property
  def factor(self) -> int:
    """The height and the width of a frame over those of its latent."""
    return 2 ** (len(self.channels) - 1)

  def __call__(self, frames: Float['bt h w 3']) -> Float['bt h2 w2 3']:
    """The frames, decoded from the means of their latents."""
    return self.decode(self.encode(frames)[..., : self.latent_channels])

  def encode(self, frames: Float['bt h w 3']) -> Float['bt h2 w2 m']:
    """The moments of latents before scaling: their means, and then the logarithms of their
    variances, in float32.  Frames are in [-1, 1]; their rows and columns beyond a multiple of
    `factor` are cut."""
    return self.quant(self.encoder(frames)).astype(jnp.float32)

  def decode(self, latents: Frames) -> Float['bt h2 w2 3']:
    """The frames of latents before scaling, in float32, of which most are in [-1, 1]."""
    return self.decoder(self.post_quant(latents)).astype(jnp.float32)


class _Encoder(nn.Module):
  features: int
  channels: Sequence[int]
  units: int
  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: Frames) -> Float['bt h2 w2 m']:
    x = _conv(self.channels[0], self.dtype, 'conv_in')(x)
    for level, features in enumerate(self.channels):
      for i in range(self.units):
        x = _Unit(features, self.groups, self.dtype, name=f'down{level}_unit{i}')(x)
      if level < len(self.channels) - 1:
        x = _conv(features, self.dtype, f'down{level}_resample', HALVED, stride=2)(x)
    x = _Middle(self.groups, self.dtype, name='middle')(x)
    x = nn.silu(_norm(self.groups, self.dtype, 'norm_out')(x))
    return _conv(self.features, self.dtype, 'conv_out')(x)


class _Decoder(nn.Module):
  features: int
  channels: Sequence[int]
  units: int
  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: Frames) -> Float['bt h2 w2 f']:
    x = _conv(self.channels[-1], self.dtype, 'conv_in')(x)
    x = _Middle(self.groups, self.dtype, name='middle')(x)
    for level, features in reversed([*enumerate(self.channels)]):
      for i in range(self.units + 1):
        x = _Unit(features, self.groups, self.dtype, name=f'up{level}_unit{i}')(x)
      if level:
        x = repeat(x, 'n h w c -> n (h 2) (w 2) c')
        x = _conv(features, self.dtype, f'up{level}_resample')(x)
    x = nn.silu(_norm(self.groups, self.dtype, 'norm_out')(x))
    return _conv(self.features, self.dtype, 'conv_out')(x)


class _Middle(nn.Module):
  """Two residual blocks with an attention over the pixels between them."""

  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: Frames) -> Frames:
    features = x.shape[-1]
    x = _Unit(features, self.groups, self.dtype, name='unit0')(x)
    x = _Attention(self.groups, self.dtype, name='attention')(x)
    return _Unit(features, self.groups, self.dtype, name='unit1')(x)


class _Unit(nn.Module):
  """A residual block, whose skip is a 1x1 convolution where the number of channels changes."""

  features: int
  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: Frames) -> Float['bt h w f']:
    y = nn.silu(_norm(self.groups, self.dtype, 'norm1')(x))
    y = _conv(self.features, self.dtype, 'conv1')(y)
    y = nn.silu(_norm(self.groups, self.dtype, 'norm2')(y))
    y = _conv(self.features, self.dtype, 'conv2')(y)
    if x.shape[-1] != self.features:
      x = nn.Conv(self.features, (1, 1), dtype=self.dtype, name='skip')(x)
    return x + y


class _Attention(nn.Module):
  """The attention of each pixel to all of its frame, with one head."""

  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: Frames) -> Frames:
    dense = lambda name: nn.Dense(x.shape[-1], dtype=self.dtype, name=name)
    y = rearrange(_norm(self.groups, self.dtype, 'norm')(x), 'n h w c -> n (h w) 1 c')
    y = jax.nn.dot_product_attention(*(dense(name)(y) for name in ('query', 'key', 'value')))
    y = dense('proj')(rearrange(y, 'n s 1 c -> n s c'))
    return x + y.reshape(x.shape)


def _conv(features, dtype, name, padding=SAME, stride=1):
  return nn.Conv(features, (3, 3), stride, padding, dtype=dtype, name=name)


def _norm(groups, dtype, name):
  # The fast variance, E[x^2] - E[x]^2, cancels where the mean is large.
  return nn.GroupNorm(groups, epsilon=EPSILON, dtype=dtype, use_fast_variance=False, name=name)
