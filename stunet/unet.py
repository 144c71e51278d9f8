"""The space-time U-Net of Lumiere (Bar-Tal et al., 2024, Sec. 3.1, Fig. 4).

       noisy video                                              prediction
            |                                                        ^
         conv_in                                                  conv_out
            |                     t x h x w                          |
       down0 units  - - - - - - - - skips - - - - - - - - - - ->  up0 units
            |                                                        ^
   halve space, then time                                double space, then time
            v                   t/2 x h/2 x w/2                      |
       down1 units  - - - - - - - - skips - - - - - - - - - - ->  up1 units
            |                                                        ^
   halve space, then time                                double space, then time
            v                   t/4 x h/4 x w/4                      |
       down2 units  - - - - - - - - skips - - - - - - - - - - ->  up2 units
            |                                                        ^
            +-------------------> middle units ----------------------+

   a unit:   ResBlock -> Attention     ->     TemporalConv -> TemporalAttention
             spatial: each frame alone        temporal: the identity at initialisation

The figure has three levels of resolution and temporal strides of 1, 2 and 2.  All units are
conditioned on the text and the diffusion time.  Without the temporal blocks and the resampling of
time it is the text-to-image U-Net, whose parameters are frozen while the temporal ones are trained.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from einops import repeat

from core.condition import Condition
from core.sharding import shard_activations
from core.typing import Float, Time, Video
from stunet import checks
from stunet.layers import (
  ACTIVATIONS,
  Conv2D,
  Dense,
  GroupNorm,
  per_frame,
  pixel_shuffle,
  pixel_unshuffle,
  zeros,
)
from stunet.spatial import AttentionPooling, ResBlock, TimeEmbedding
from stunet.temporal import TemporalDown, TemporalUp
from stunet.unit import Embedded, Unit, save_products


class STUNet(nn.Module):
  """Predicts noise, clean video or velocity from a noisy video, its time and a condition.

  Level i, the finest of which is 0, has `down_units[i]` units on the way down and `up_units[i]` on
  the way up.  Resampling in space is 'residual', in a ResBlock with the features of the finer level
  on the way down and of the coarser level on the way up (Imagen's base model, DeepFloyd IF); or it
  is 'conv', a strided convolution on the way down, and a convolution before repetition on the way
  up (Efficient U-Net; Imagen, App. B.1); or 'conv_after', a strided convolution on the way down and
  a convolution after repetition on the way up, with the features of 'residual' (Ho et al., 2020;
  Stable Diffusion).  The last allows frames of any size: an odd side is halved upwards, and doubled
  to what it was.

  With `temporal`, Lumiere adds three things: on entering level i a resampling in time by
  `temporal_strides[i]`, after the one in space; a TemporalConv after every unit except at the
  coarsest level; and `temporal_attentions[i]` TemporalAttentions after every unit of level i, which
  in the paper are only at the coarsest.  With small frames, finer levels can afford them too.

  A model can be trained on every `frame_step`-th frame of clips first.  These frames are resampled
  by as much less, so that the coarser levels get the same frames of a clip in either case.
  """

  channels: Sequence[int]  # of each level, the finest first
  down_units: Sequence[int]
  up_units: Sequence[int]
  # 'none', 'cross': to the text, 'joint': to the text and the frame, or 'transformer': to the
  # frame, then to the text.
  attention: Sequence[str]
  temporal_strides: Sequence[int]
  temporal_attentions: Sequence[int]
  temporal: bool = True
  out_channels: int = 3  # twice as many as a video has with learned variance
  patch: int = 1  # side of the squares of pixels that are unshuffled into channels
  resample: str = 'residual'
  attend_after: str = 'unit'  # every unit, or 'level': only the last unit of each level
  middle_attention: str = ''  # of the middle units; '': that of the coarsest level
  head_features: int = 64
  heads: int = 0  # of every attention in a unit; 0: as many as have head_features each
  transformer_depth: int = 1  # blocks of a 'transformer'
  transformer_projection: str = 'conv'  # of its input and output, of size 1, or 'dense'
  text_features: int = 0  # to which tokens are projected for attention; 0: they are not projected
  pool_text: bool = True  # whether the pooled text is added to the embedding of the time
  pool_heads: int = 8
  emb_features: int = 0  # 0: four times the channels of the finest level
  noise_level_embedding: bool = False  # whether the condition's noise level is embedded
  temporal_scale_shift: bool = False  # whether time, text and position modulate temporal blocks
  frame_step: int = 1  # 4 for a video of every fourth frame of a clip
  groups: int = 32
  activation: str = 'gelu'
  embedding: str = 'scale_shift'  # of time and pooled text, which modulates ResBlocks, or 'add'
  residual_scale: float = 1.0  # of a ResBlock's sum; 1/sqrt 2 in DeepFloyd IF's upscalers
  skip_scale: float = 1.0  # of the skip connections; 1/sqrt 2 in Imagen's Efficient U-Net
  remat: bool = False  # recompute units in the backward pass, except for their products
  dtype: str = 'float32'  # of convolutions and products; parameters and statistics are float32

  @property
  def temporal_factor(self) -> int:
    """The number of frames that share one frame of the coarsest level."""
    return math.prod(stride for stride, _ in self._levels_in_time()) if self.temporal else 1

  @property
  def spatial_factor(self) -> int:
    """What divides both sides of a frame: the pixels that share one pixel of the coarsest level, or
    of the finest if `resample` allows any number."""
    return self.patch * (1 if self.resample == 'conv_after' else 2 ** (len(self.channels) - 1))

  def check_frames(self, frames: int) -> None:
    """UserError unless a clip may have so many frames: one, or a multiple of the factor."""
    checks.check_frames(frames, self.temporal_factor)

  @nn.compact
  def __call__(self, x: Video, t: Time, cond: Condition) -> Float['b t h w o']:
    """In comments, level i has ti frames of hi x wi pixels and ci channels; k varies."""
    checks.check_config(self)
    checks.check_inputs(self, x, cond)
    # A single frame is not resampled in time.
    strides = [stride if x.shape[1] > 1 else 1 for stride, _ in self._levels_in_time()]
    coarsest = len(self.channels) - 1
    embedded = self._embed(t, cond)

    x = pixel_unshuffle(x.astype(self.dtype), self.patch)  # b t0 h0 w0 k
    if videos := cond.videos:
      aligned = jnp.concatenate([*videos.values()], -1).astype(self.dtype)  # b t h w k
      x = jnp.concatenate([x, pixel_unshuffle(aligned, self.patch)], -1)  # b t0 h0 w0 k
    conv_in = Conv2D(self.channels[0], self.dtype, name='conv_in')
    x = shard_activations(per_frame(conv_in)(shard_activations(x)))  # b t0 h0 w0 c0

    skips = []
    for i, units in enumerate(self.down_units):
      if i > 0:
        x = self._down(x, i, embedded, strides[i])  # b ti hi wi k
      skips.append([x])
      for j in range(units):
        x = self._unit(f'down{i}_unit{j}', i, last=j == units - 1)(x, embedded)  # b ti hi wi ci
        skips[i].append(x)

    middle = self.middle_attention or self.attention[coarsest]
    x = self._unit('middle_unit0', coarsest, attention=middle)(x, embedded)  # b ti hi wi ci
    x = self._unit('middle_unit1', coarsest, attention='none')(x, embedded)  # b ti hi wi ci

    for i, units in reversed(list(enumerate(self.up_units))):
      for j in range(units):
        x = jnp.concatenate([x, skips[i].pop() * self.skip_scale], -1)  # b ti hi wi k
        x = self._unit(f'up{i}_unit{j}', i, last=j == units - 1)(x, embedded)  # b ti hi wi ci
      if i > 0:
        size = skips[i - 1][-1].shape[2:4]
        x = self._up(x, i, embedded, strides[i], size)  # b t[i-1] h[i-1] w[i-1] k

    norm_out = GroupNorm(self.groups, self.dtype, name='norm_out')
    features = self.out_channels * self.patch**2
    conv_out = Conv2D(features, self.dtype, kernel_init=zeros, name='conv_out')
    x = ACTIVATIONS[self.activation](per_frame(norm_out)(x))  # b t0 h0 w0 k
    x = per_frame(conv_out)(x)  # b t0 h0 w0 k
    return pixel_shuffle(x.astype(jnp.float32), self.patch)  # b t h w o

  def _levels_in_time(self) -> list[tuple[int, int]]:
    """Of each level, the stride on entering it and the step between positions of its frames.

    Strides are divided by the frame step, the finest first, until nothing of it is left.
    """
    levels, step = [], int(self.frame_step)
    for stride in self.temporal_strides:
      shared = math.gcd(stride, step)
      step //= shared
      levels.append((stride // shared, step))
    return levels

  def _embed(self, t, cond):
    """The embeddings of the time and of the condition.

    The image model's pooling of the text is frozen and keeps little of words for motions, which
    images do not need.  Temporal blocks have their own pooling, which is trained with them.
    """
    features = self.emb_features or 4 * self.channels[0]
    sizes = (self.channels[0], features, self.activation, self.dtype)
    pool = lambda name: AttentionPooling(features, self.pool_heads, self.dtype, name=name)

    text = cond.text.astype(self.dtype)  # b n d
    mask = jnp.ones(text.shape[:2], bool) if cond.text_mask is None else cond.text_mask  # b n
    emb = TimeEmbedding(*sizes, name='time')(t)  # b f
    if self.noise_level_embedding:
      emb += TimeEmbedding(*sizes, name='level')(cond.noise_level)  # b f
    spatial = emb + pool('pool')(text, mask) if self.pool_text else emb  # b f
    spatial = ACTIVATIONS[self.activation](spatial)  # b f
    temporal = None
    if self.temporal and self.temporal_scale_shift:
      temporal = emb + pool('temporal_pool')(text, mask)  # b f
    if self.text_features:
      text = Dense(self.text_features, self.dtype, name='text_proj')(text)  # b n k
    return Embedded(spatial, temporal, text, mask)

  def _unit(self, name, i, attention='', last=True):
    """A unit of level i, with the level's attention by default; `last` says whether no other of
    this level follows it on its way."""
    attends = last or self.attend_after == 'unit'
    coarsest = i == len(self.channels) - 1
    return (nn.remat(Unit, policy=save_products) if self.remat else Unit)(
      features=self.channels[i],
      attention=(attention or self.attention[i]) if attends else 'none',
      head_features=self.channels[i] // self.heads if self.heads else self.head_features,
      residual_scale=self.residual_scale,
      embedding=self.embedding,
      transformer={'depth': self.transformer_depth, 'projection': self.transformer_projection},
      temporal_convs=int(self.temporal and not coarsest),
      temporal_attentions=self.temporal_attentions[i] if self.temporal else 0,
      groups=self.groups,
      activation=self.activation,
      dtype=self.dtype,
      frame_step=self._levels_in_time()[i][1],
      name=name,
    )

  def _down(self, x, i, embedded, stride):
    """Enters level i from level i - 1: halves height and width, then downsamples time."""
    name = f'down{i}_spatial'
    if self.resample == 'residual':
      x = per_frame(self._resblock(name, self.channels[i - 1], -1))(x, embedded.spatial)
    elif self.resample == 'conv':
      x = per_frame(Conv2D(self.channels[i], self.dtype, stride=2, name=name))(x)
    else:
      padding = ((1, 1), (1, 1))
      conv = Conv2D(self.channels[i - 1], self.dtype, stride=2, padding=padding, name=name)
      x = per_frame(conv)(x)
    if self.temporal and self.temporal_strides[i] > 1:
      x = TemporalDown(stride, self.dtype, name=f'temporal_down{i}')(x)
    return shard_activations(x)

  def _up(self, x, i, embedded, stride, size):
    """Leaves level i for level i - 1: doubles height and width to `size`, then upsamples time."""
    name = f'up{i}_spatial'
    if self.resample == 'residual':
      x = per_frame(self._resblock(name, self.channels[i], 1))(x, embedded.spatial)
    elif self.resample == 'conv':
      x = per_frame(Conv2D(self.channels[i - 1], self.dtype, name=name))(x)
      x = repeat(x, 'b t h w c -> b t (h 2) (w 2) c')
    else:
      x = repeat(x, 'b t h w c -> b t (h 2) (w 2) c')[:, :, : size[0], : size[1]]
      x = per_frame(Conv2D(self.channels[i], self.dtype, name=name))(x)
    if self.temporal and self.temporal_strides[i] > 1:
      x = TemporalUp(stride, self.dtype, name=f'temporal_up{i}')(x)
    return shard_activations(x)

  def _resblock(self, name, features, rescale):
    options = self.groups, self.activation, self.dtype, self.residual_scale, rescale, self.embedding
    return ResBlock(features, *options, name=name)
