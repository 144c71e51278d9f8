"""Inception-I3D (Carreira & Zisserman, 2017), whose logits are the features of FVD.

Unterthiner et al., 2018, compare videos by the 400 logits of the RGB network trained on
Kinetics-400.
"""

import flax.linen as nn
import jax.numpy as jnp
import jaxtyping
import numpy as np
from jaxtyping import UInt8

from core.errors import UserError
from core.typing import Float, Video
from evaluation.features import resize, volume

SIZE = 224  # of frames
PREPARED = 'shorter side 224, bilinear without antialiasing; centre 224x224; [-1, 1]'
MIN_FRAMES = 9  # two of these frames are left before the last pooling
EPSILON = 1e-3  # of the batch norms

# The channels of the branches: 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 after pooling.
MIXED = {
  'mixed3b': (64, 96, 128, 16, 32, 32),
  'mixed3c': (128, 128, 192, 32, 96, 64),
  'mixed4b': (192, 96, 208, 16, 48, 64),
  'mixed4c': (160, 112, 224, 24, 64, 64),
  'mixed4d': (128, 128, 256, 24, 64, 64),
  'mixed4e': (112, 144, 288, 32, 64, 64),
  'mixed4f': (256, 160, 320, 32, 128, 128),
  'mixed5b': (256, 160, 320, 32, 128, 128),
  'mixed5c': (384, 192, 384, 48, 128, 128),
}
# The windows of the pooling before a block.
POOLED_BEFORE = {'mixed3b': (1, 3, 3), 'mixed4b': (3, 3, 3), 'mixed5b': (2, 2, 2)}


class I3D(nn.Module):
  """Classifies videos in [-1, 1]."""

  classes: int = 400

  @nn.compact
  def __call__(self, video: Video) -> Float['b k']:
    """Logits averaged over time and, for frames of other sizes than 224, over all positions.

    UserError where there are fewer than `MIN_FRAMES` frames.
    """
    if video.shape[1] < MIN_FRAMES:
      raise UserError(f'Got videos of {video.shape[1]} frames; I3D takes {MIN_FRAMES} or more.')
    x = _Unit(64, 7, stride=2, name='conv1a')(video)
    x = volume.max_pool(x, (1, 3, 3), (1, 2, 2))
    x = _Unit(64, 1, name='conv2b')(x)
    x = _Unit(192, 3, name='conv2c')(x)
    for name, channels in MIXED.items():
      if window := POOLED_BEFORE.get(name):
        x = volume.max_pool(x, window, tuple(min(n, 2) for n in window))
      x = _Mixed(channels, name=name)(x)
    x = x.mean((2, 3))
    x = (x[:, 1:] + x[:, :-1]) / 2
    # Logits are linear, so that the mean of all logits is the logits of the mean.
    return nn.Dense(self.classes, name='logits')(x.mean(1))


class _Mixed(nn.Module):
  """Four branches side by side (Szegedy et al., 2015)."""

  channels: tuple[int, ...]

  @nn.compact
  def __call__(self, x: Video) -> Float['b t h w d']:
    unit = lambda i, name, size=1: _Unit(self.channels[i], size, name=name)
    branches = (
      unit(0, 'b0')(x),
      unit(2, 'b1b', 3)(unit(1, 'b1a')(x)),
      unit(4, 'b2b', 3)(unit(3, 'b2a')(x)),
      unit(5, 'b3')(volume.max_pool(x, (3, 3, 3), (1, 1, 1))),
    )
    return jnp.concatenate(branches, -1)


class _Unit(nn.Module):
  """Convolution, batch norm with the statistics of training, and ReLU."""

  features: int
  size: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: Video) -> Float['b t2 h2 w2 d']:
    shape = (*[self.size] * 3, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape)
    zeros, ones = nn.initializers.zeros, nn.initializers.ones
    scale, var = (self.param(name, ones, (self.features,)) for name in ('scale', 'var'))
    bias, mean = (self.param(name, zeros, (self.features,)) for name in ('bias', 'mean'))
    scale = scale / jnp.sqrt(var + EPSILON)
    x = volume.convolve(x, kernel * scale[None, None, None, None], self.stride)
    return nn.relu(x + (bias - mean * scale)[None, None, None, None])


def preprocess(video: UInt8[np.ndarray, 't h w 3']) -> jaxtyping.Float[np.ndarray, 't 224 224 3']:
  """The centre of the frames at the size of the network, float32 in [-1, 1].

  Frames are resized by `resize.resize_shorter_side`, as StyleGAN-V (Skorokhodov et al., 2022) and
  TATS (Ge et al., 2022) do for FVD.
  """
  frames = resize.resize_shorter_side(video, SIZE, SIZE)
  frames /= 127.5
  frames -= 1
  return frames
