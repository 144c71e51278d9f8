"""A unit of the U-Net: the spatial blocks of the image model and the temporal blocks after them."""

from collections.abc import Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
from jax.extend.core import jaxprs_in_params

from core.sharding import shard_activations
from core.typing import Float, Video
from stunet.layers import per_frame
from stunet.spatial import Attention, ResBlock
from stunet.temporal import TemporalAttention, TemporalConv
from stunet.transformer import Transformer


@flax.struct.dataclass
class Embedded:
  """What every unit is conditioned on: the time and the condition of each clip, embedded."""

  spatial: Any  # b d, of the time and any pooled text, activated, for ResBlocks
  temporal: Any  # b d, the same for temporal blocks, not activated; or None
  text: Any  # b n k, the tokens
  text_mask: Any  # b n, true where a token counts


class Unit(nn.Module):
  """A residual block with or without attention, and the temporal blocks that inflate it.

    ResBlock -> Attention -> TemporalConv ... -> TemporalAttention ...

  The first two are spatial, and process each frame on its own.
  """

  features: int
  attention: str  # 'none', 'cross', 'joint' or 'transformer'
  head_features: int
  residual_scale: float
  embedding: str
  transformer: Mapping[str, Any]  # the options of a Transformer
  temporal_convs: int
  temporal_attentions: int
  groups: int
  activation: str
  dtype: str
  frame_step: int

  @nn.compact
  def __call__(self, x: Video, embedded: Embedded) -> Float['b t h w f']:
    options = {'groups': self.groups, 'activation': self.activation, 'dtype': self.dtype}
    scale, embedding = self.residual_scale, self.embedding
    block = ResBlock(
      self.features, residual_scale=scale, embedding=embedding, name='spatial', **options
    )
    x = per_frame(block)(x, embedded.spatial)  # b t h w f
    if (attention := self._attention()) is not None:
      x = per_frame(attention)(x, embedded.text, embedded.text_mask)  # b t h w f
    options |= {'frame_step': self.frame_step}
    for i in range(self.temporal_convs):
      x = TemporalConv(name=f'temporal_conv{i}', **options)(x, embedded.temporal)  # b t h w f
    for i in range(self.temporal_attentions):
      block = TemporalAttention(self.head_features, name=f'temporal_attention{i}', **options)
      x = block(x, embedded.temporal)  # b t h w f
    return shard_activations(x)

  def _attention(self):
    options = {'head_features': self.head_features, 'groups': self.groups, 'dtype': self.dtype}
    if self.attention == 'none':
      return None
    if self.attention == 'transformer':
      return Transformer(**self.transformer, name='transformer', **options)
    return Attention(joint=self.attention == 'joint', name='attention', **options)


def save_products(primitive, *inputs, **params) -> bool:
  """A policy of `jax.checkpoint`: whether a result is saved for the backward pass.

  The results of convolutions and dense layers are saved.  Norms, activations and the products of
  attention, whose size grows with the square of the number of pixels, are computed again.
  """
  convolution = 'conv_general_dilated'
  # A convolution is within a function that has its own gradient: stunet/convolution.py.
  within = {inner.primitive.name for jaxpr in jaxprs_in_params(params) for inner in jaxpr.eqns}
  dense = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  return convolution in {primitive.name, *within} or dense(primitive, *inputs, **params)
