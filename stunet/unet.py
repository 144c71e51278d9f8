"""The space-time U-Net.  With `temporal=False` it is the text-to-image U-Net it grows from."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange, repeat

from core.condition import Condition
from core.errors import UserError
from core.sharding import shard_activations
from core.typing import Bool, Float, Time, Video
from stunet.layers import (
  ACTIVATIONS,
  Attention,
  AttentionPooling,
  GroupNorm,
  ResBlock,
  TimeEmbedding,
  zeros,
)  # fmt: skip
from stunet.temporal import TemporalAttention, TemporalConv, TemporalDown, TemporalUp


class Unit(nn.Module):
  """A spatial unit, which sees each frame alone, and the temporal layers that inflate it."""

  features: int
  attention: str  # 'none', 'cross' or 'joint'
  head_features: int
  residual_scale: float
  convs: int  # TemporalConvs after it
  attentions: int  # TemporalAttentions after it
  groups: int
  activation: str
  dtype: str
  frame_step: float

  @nn.compact
  def __call__(
    self,
    x: Video,
    emb: Float['b d'],
    temporal_emb: Float['b d'] | None,
    text: Float['b n k'],
    mask: Bool['b n'],
  ) -> Float['b t h w f']:
    style = (self.groups, self.activation, self.dtype)
    block = ResBlock(self.features, *style, self.residual_scale, name='spatial')
    x = per_frame(block, x, repeat(emb, 'b d -> (b t) d', t=x.shape[1]))
    if self.attention != 'none':
      joint = self.attention == 'joint'
      attention = Attention(self.head_features, self.groups, joint, self.dtype, name='attention')
      x = per_frame(attention, x, text, mask)
    style = (*style, self.frame_step)
    for i in range(self.convs):
      x = TemporalConv(*style, name=f'temporal_conv{i}')(x, temporal_emb)
    for i in range(self.attentions):
      layer = TemporalAttention(self.head_features, *style, name=f'temporal_attention{i}')
      x = layer(x, temporal_emb)
    return shard_activations(x)


class STUNet(nn.Module):
  """Predicts noise, clean video or velocity from a noisy video, its time and a condition.

  A level is entered by a resampling, has `down_units[i]` units on the way down and `up_units[i]`
  on the way up; a unit is a residual block with or without attention.  Resampling in space is
  'residual', inside a residual block of the level above on the way down and of the own one on the
  way up (Imagen's base model, DeepFloyd IF), or 'conv': strided on the way down, before the
  repetition on the way up (Efficient U-Net; Imagen, App. B.1).

  With `temporal`, Lumiere (Sec. 3.1) adds a resampling in time after each in space, by
  `temporal_strides[i]` on entering level i; a TemporalConv after every unit but those of the
  coarsest level; and `temporal_attentions[i]` TemporalAttentions after every unit of level i, which
  in the paper are 0 but for the coarsest.  Small frames can afford more.
  """

  channels: Sequence[int]  # of every level, the finest first
  down_units: Sequence[int]
  up_units: Sequence[int]
  attention: Sequence[str]  # 'none', 'cross' to the text, or 'joint' with the own frame
  temporal_strides: Sequence[int]
  temporal_attentions: Sequence[int]
  temporal: bool = True
  out_channels: int = 3  # twice as many as a video has with learned variance
  patch: int = 1  # pixels unshuffled into channels before the first convolution
  resample: str = 'residual'
  attend_after: str = 'unit'  # or 'level': once, after its last unit
  head_features: int = 64
  text_features: int = 0  # width the text is projected to for attention; 0 leaves it as it is
  pool_heads: int = 8
  emb_features: int = 0  # 0: four times the finest level's channels
  noise_level_embedding: bool = False  # whether the condition's noise level is embedded
  temporal_scale_shift: bool = False  # whether time, text and frame modulate the temporal layers
  frame_step: float = 1.0  # by which positions of frames grow: 4, where three of four are left out
  groups: int = 32
  activation: str = 'gelu'
  residual_scale: float = 1.0  # of a residual block's sum; 1/sqrt 2 in DeepFloyd IF's upscalers
  skip_scale: float = 1.0  # of the skip connections; 1/sqrt 2 in Imagen's Efficient U-Net
  remat: bool = False  # make all of a unit but what is `costly` again in the backward pass
  dtype: str = 'float32'  # of convolutions and products; parameters and statistics are float32

  @property
  def temporal_factor(self) -> int:
    """The number of frames that share one frame of the coarsest level."""
    factor = 1
    for stride in self.temporal_strides if self.temporal else ():
      factor *= stride
    return factor

  def check_frames(self, frames: int) -> None:
    """Raises ValueError unless a clip may have so many frames: one, or a multiple of the factor."""
    n = self.temporal_factor
    if frames != 1 and (frames < 1 or frames % n):
      below = frames // n * n
      near = ' or '.join(str(f) for f in sorted({below or 1, below + n}) if f > 0)
      raise UserError(
        f'{frames} frames do not divide by the temporal factor {n} of the model: use 1 or a '
        f'multiple of {n}; the nearest are {near}.'
      )

  @nn.compact
  def __call__(self, x: Video, t: Time, cond: Condition) -> Float['b t h w o']:
    self.check_frames(x.shape[1])
    self._check_config(x.shape[2:4])
    last = len(self.channels) - 1
    # A single frame has nothing to resample in time.
    strides = [s if x.shape[1] > 1 else 1 for s in self.temporal_strides]
    embedded = self._embed(t, cond)
    emb = embedded[0]

    x = unshuffle(x.astype(self.dtype), self.patch)
    if videos := cond.videos:
      beside = jnp.concatenate([*videos.values()], -1).astype(self.dtype)
      x = jnp.concatenate([x, unshuffle(beside, self.patch)], -1)
    x = shard_activations(per_frame(self._conv(self.channels[0], 'conv_in'), shard_activations(x)))

    levels = []
    for i, blocks in enumerate(self.down_units):
      if i > 0:
        x = shard_activations(self._down(x, emb, i, strides[i]))
      outputs = [x]
      for j in range(blocks):
        attend = self.attend_after == 'unit' or j == blocks - 1
        x = self._unit(f'down{i}_unit{j}', i, attend)(x, *embedded)
        outputs.append(x)
      levels.append(outputs)

    x = self._unit('middle_unit0', last)(x, *embedded)
    x = self._unit('middle_unit1', last, attend=False)(x, *embedded)

    for i, blocks in reversed(list(enumerate(self.up_units))):
      for j in range(blocks):
        attend = self.attend_after == 'unit' or j == blocks - 1
        x = jnp.concatenate([x, levels[i].pop() * self.skip_scale], -1)
        x = self._unit(f'up{i}_unit{j}', i, attend)(x, *embedded)
      if i > 0:
        x = shard_activations(self._up(x, emb, i, strides[i]))

    norm = GroupNorm(self.groups, self.dtype, name='norm_out')
    x = ACTIVATIONS[self.activation](per_frame(norm, x))
    features = self.out_channels * self.patch**2
    x = per_frame(self._conv(features, 'conv_out', kernel_init=zeros), x)
    return shuffle(x.astype(jnp.float32), self.patch)

  def _check_config(self, size):
    levels = len(self.channels)
    per_level = 'down_units', 'up_units', 'attention', 'temporal_strides', 'temporal_attentions'
    if wrong := [n for n in per_level if len(getattr(self, n)) != levels]:
      raise UserError(f'{levels} levels in channels, but not in {wrong}.')
    for i, (down, up) in enumerate(zip(self.down_units, self.up_units)):
      if up > down + 1:
        raise UserError(f'Level {i} has {up} up_units; its down_units allow at most {down + 1}.')
    if self.temporal_strides[0] != 1:
      raise UserError(
        f'temporal_strides begins with {self.temporal_strides[0]}; it must be 1, because nothing '
        'is resampled before level 0.'
      )
    allowed = {
      'attention': ('cross', 'joint', 'none'), 'resample': ('conv', 'residual'),
      'attend_after': ('level', 'unit'), 'activation': tuple(sorted(ACTIVATIONS)),
    }  # fmt: skip
    for name, choices in allowed.items():
      given = getattr(self, name)
      for value in (given,) if isinstance(given, str) else given:
        if value not in choices:
          raise UserError(f'{name} is {value!r}; allowed are {", ".join(choices)}.')
    for i, c in enumerate(self.channels):
      attends = self.attention[i] != 'none' or (self.temporal and self.temporal_attentions[i] > 0)
      divisors = {'groups': self.groups} | (
        {'head_features': self.head_features} if attends else {}
      )
      for name, n in divisors.items():
        if c % n:
          raise UserError(f'Level {i} has {c} channels, which do not divide by {name}={n}.')
    if any(s % (n := self.patch * 2 ** (levels - 1)) for s in size):
      raise UserError(f'Frames of {size[0]}x{size[1]} pixels do not divide by {n}.')

  def _embed(self, t, cond):
    """What units see: all that is global, embedded and activated, for spatial layers (b d); the
    same before activation for temporal ones, or None; and the text (b n k) with its mask.

    The frozen pooling hardly hears the words for motions, of which the image model has no use:
    temporal layers have a pooling of their own, trained with them.
    """
    if self.noise_level_embedding != (cond.noise_level is not None):
      raise UserError('The condition has a noise level if and only if the model embeds one.')
    features = self.emb_features or 4 * self.channels[0]
    text = cond.text.astype(self.dtype)
    mask = jnp.ones(text.shape[:2], bool) if cond.text_mask is None else cond.text_mask
    sizes = (self.channels[0], features, self.activation, self.dtype)
    emb = TimeEmbedding(*sizes, name='time')(t)
    if self.noise_level_embedding:
      emb += TimeEmbedding(*sizes, name='level')(cond.noise_level)
    pool = lambda name: AttentionPooling(features, self.pool_heads, self.dtype, name=name)
    spatial = ACTIVATIONS[self.activation](emb + pool('pool')(text, mask))
    modulates = self.temporal and self.temporal_scale_shift
    temporal = emb + pool('temporal_pool')(text, mask) if modulates else None
    if self.text_features:
      text = nn.Dense(self.text_features, dtype=self.dtype, name='text_proj')(text)
    return spatial, temporal, text, mask

  def _unit(self, name, i, attend=True):
    coarsest = i == len(self.channels) - 1
    return (nn.remat(Unit, policy=costly) if self.remat else Unit)(
      features=self.channels[i],
      attention=self.attention[i] if attend else 'none',
      head_features=self.head_features,
      residual_scale=self.residual_scale,
      convs=int(self.temporal and not coarsest),
      attentions=self.temporal_attentions[i] if self.temporal else 0,
      groups=self.groups,
      activation=self.activation,
      dtype=self.dtype,
      frame_step=self.frame_step,
      name=name,
    )

  def _down(self, x, emb, i, stride):
    if self.resample == 'residual':
      block = self._resampling_block(self.channels[i - 1], -1, f'down{i}_spatial')
      x = per_frame(block, x, repeat(emb, 'b d -> (b t) d', t=x.shape[1]))
    else:
      x = per_frame(self._conv(self.channels[i], f'down{i}_spatial', strides=2), x)
    return (
      TemporalDown(stride, self.dtype, name=f'temporal_down{i}')(x)
      if self._resamples_time(i)
      else x
    )

  def _up(self, x, emb, i, stride):
    if self.resample == 'residual':
      block = self._resampling_block(self.channels[i], 1, f'up{i}_spatial')
      x = per_frame(block, x, repeat(emb, 'b d -> (b t) d', t=x.shape[1]))
    else:
      x = per_frame(self._conv(self.channels[i - 1], f'up{i}_spatial'), x)
      x = repeat(x, 'b t h w c -> b t (h 2) (w 2) c')
    return (
      TemporalUp(stride, self.dtype, name=f'temporal_up{i}')(x) if self._resamples_time(i) else x
    )

  def _resamples_time(self, i):
    return self.temporal and self.temporal_strides[i] > 1

  def _conv(self, features, name, **kwargs):
    return nn.Conv(features, (3, 3), dtype=self.dtype, name=name, **kwargs)

  def _resampling_block(self, features, rescale, name):
    return ResBlock(
      features, self.groups, self.activation, self.dtype, self.residual_scale, rescale, name=name
    )


def costly(primitive, *inputs, **params) -> bool:
  """Whether what an operation makes is kept for the backward pass, where units are made again.

  Convolutions and dense layers are; norms, activations and the products of attention, of which
  there are as many as pairs of pixels, are made again.
  """
  dense = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  return primitive.name == 'conv_general_dilated' or dense(primitive, *inputs, **params)


def per_frame(layer, x: Video, *context) -> Float['b t h2 w2 f']:
  """A spatial layer applied to every frame on its own: time is folded away before it."""
  b = len(x)
  x = layer(rearrange(x, 'b t h w c -> (b t) h w c'), *context)
  return rearrange(x, '(b t) h w c -> b t h w c', b=b)


def unshuffle(x: Video, patch: int) -> Float['b t h2 w2 k']:
  """Pixels of each patch as channels."""
  return rearrange(x, 'b t (h p) (w q) c -> b t h w (p q c)', p=patch, q=patch)


def shuffle(x: Video, patch: int) -> Float['b t h2 w2 k']:
  """Inverse of `unshuffle`."""
  return rearrange(x, 'b t h w (p q c) -> b t (h p) (w q) c', p=patch, q=patch)
