"""The U-Nets of DeepFloyd IF as diffusers stores them, converted to an STUNet and back.

IF-I generates images of 64x64 pixels, and IF-II upscales them to 256x256.  Both have the layers of
the image model here, under other names.  Keys of a `config.json` of diffusers' UNet2DConditionModel
that neither `_SAME` nor `model_config` reads must be absent or have diffusers' default.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from core.condition import Condition
from core.errors import UserError
from core.frame_size import Size, height_width
from core.typing import Params
from stunet.unet import STUNet

_PLAIN = ('ResnetDownsampleBlock2D', 'ResnetUpsampleBlock2D')
_ATTENDING = ('SimpleCrossAttnDownBlock2D', 'SimpleCrossAttnUpBlock2D')

# Keys whose value is the same in all U-Nets of IF: that value, and diffusers' default, which is the
# value where a config lacks the key.
_SAME = {
  'addition_embed_type': ('text', None),
  'center_input_sample': (False, False),
  'class_embeddings_concat': (False, False),
  'conv_in_kernel': (3, 3),
  'conv_out_kernel': (3, 3),
  'cross_attention_norm': ('group_norm', None),
  'dual_cross_attention': (False, False),
  'flip_sin_to_cos': (True, True),
  'freq_shift': (0, 0),
  'mid_block_type': ('UNetMidBlock2DSimpleCrossAttn', 'UNetMidBlock2DCrossAttn'),
  'norm_eps': (1e-5, 1e-5),
  'norm_num_groups': (32, 32),  # the norm of the text has 32 groups in any case
  'resnet_time_scale_shift': ('scale_shift', 'default'),
  'time_embedding_type': ('positional', 'positional'),
  'timestep_post_act': (None, None),
}


def model_config(unet: Mapping[str, Any]) -> dict[str, Any]:
  """Keyword arguments of the STUNet that a `config.json` describes, except those that are temporal.

  UserError unless it is a config of IF-I or IF-II.
  """
  kind = unet.get('_class_name')
  if kind != 'UNet2DConditionModel':
    raise UserError(f'It is a {kind}; allowed is UNet2DConditionModel, of DeepFloyd IF.')
  for key, (wanted, default) in _SAME.items():
    _require(key, unet.get(key, default), wanted)
  channels = tuple(unet['block_out_channels'])
  n = len(channels)
  attends = _attends(unet['down_block_types'], 'down_block_types', n)
  ups = _attends(unet['up_block_types'], 'up_block_types', n)
  _require('up_block_types, from the last,', tuple(reversed(ups)), attends)
  units = _per_level('layers_per_block', unet['layers_per_block'], n)
  cross = unet.get('only_cross_attention', False)
  crosses = _per_level('only_cross_attention', cross, n)
  middle = unet.get('mid_block_only_cross_attention')
  middle = cross is True if middle is None else middle
  _require('mid_block_only_cross_attention', middle, crosses[-1])
  scale = unet.get('resnet_out_scale_factor', 1.0)
  # diffusers' own config of IF-II has 1.41421 for the square root of 2.
  middle = unet.get('mid_block_scale_factor', 1.0)
  _require('mid_block_scale_factor', math.isclose(middle, scale, rel_tol=1e-3), True)
  # The embedding is activated once for all blocks, or in each block by the same activation.
  activation, once = unet.get('act_fn', 'silu'), unet.get('resnet_skip_time_act', False)
  _require('time_embedding_act_fn', unet.get('time_embedding_act_fn'), activation if once else None)
  noise_level = unet.get('class_embed_type')
  _require('class_embed_type', noise_level in (None, 'timestep'), True)
  _require('in_channels', unet['in_channels'], 3 if noise_level is None else 6)
  text_width = unet.get('encoder_hid_dim')
  return {
    'channels': channels,
    'down_units': units,
    'up_units': tuple(u + 1 for u in units),
    'attention': tuple(
      ('cross' if cross else 'joint') if a else 'none' for a, cross in zip(attends, crosses)
    ),
    'out_channels': unet['out_channels'],
    'resample': 'residual',
    'head_features': _head_features(unet.get('attention_head_dim', 8)),
    'text_features': unet['cross_attention_dim'] if text_width else 0,
    'pool_heads': unet.get('addition_embed_type_num_heads', 64),
    'emb_features': unet.get('time_embedding_dim') or 4 * channels[0],
    'noise_level_embedding': noise_level is not None,
    'groups': 32,
    'activation': activation,
    'residual_scale': 1 / scale,
  }


def unet_config(model: STUNet, text_width: int, size: Size) -> dict[str, Any]:
  """The inverse of `model_config`: the `config.json` of the spatial part of the model.

  text_width: the width of the text embeddings that the model is conditioned on.
  size: of its images in pixels, from which diffusers takes the shape of the initial noise: a number
    if they are square, else [height, width].

  UserError where diffusers has no such model.
  """
  for key, wanted in (('patch', 1), ('resample', 'residual'), ('attend_after', 'unit'),
                      ('skip_scale', 1.0), ('groups', 32)):  # fmt: skip
    _require(f'model.{key}', getattr(model, key), wanted)
  _require('up_units', tuple(model.up_units), tuple(u + 1 for u in model.down_units))
  _require('attention of the coarsest level', model.attention[-1] == 'none', False)
  attends = [a != 'none' for a in model.attention]
  height, width = height_width(size)
  scale, emb = 1 / model.residual_scale, model.emb_features or 4 * model.channels[0]
  return {
    '_class_name': 'UNet2DConditionModel',
    **{key: wanted for key, (wanted, _) in _SAME.items()},
    'sample_size': height if height == width else [height, width],
    'in_channels': 6 if model.noise_level_embedding else 3,
    'out_channels': model.out_channels,
    'block_out_channels': list(model.channels),
    'down_block_types': [_ATTENDING[0] if a else _PLAIN[0] for a in attends],
    'up_block_types': [_ATTENDING[1] if a else _PLAIN[1] for a in reversed(attends)],
    'layers_per_block': list(model.down_units),
    'only_cross_attention': [a == 'cross' for a in model.attention],
    'mid_block_only_cross_attention': model.attention[-1] == 'cross',
    'act_fn': model.activation,
    'attention_head_dim': model.head_features,
    'cross_attention_dim': model.text_features or text_width,
    'encoder_hid_dim': text_width if model.text_features else None,
    'addition_embed_type_num_heads': model.pool_heads,
    'time_embedding_dim': emb,
    'class_embed_type': 'timestep' if model.noise_level_embedding else None,
    'resnet_out_scale_factor': scale,
    'mid_block_scale_factor': scale,
  }


def shapes(model: STUNet, text_width: int) -> Params:
  """The parameters of the model for text embeddings of this width, as `jax.ShapeDtypeStruct`s."""
  size = model.spatial_factor
  video = jax.ShapeDtypeStruct((1, 1, size, size, 3), jnp.float32)
  t = jax.ShapeDtypeStruct((1,), jnp.float32)
  text = jax.ShapeDtypeStruct((1, 1, text_width), jnp.float32)
  cond = Condition(text)
  if model.noise_level_embedding:
    cond = cond.replace(low_res=video, noise_level=t)
  return jax.eval_shape(model.init, jax.random.key(0), video, t, cond)['params']


# Prefixes of names of parameters here, as regular expressions, and those of diffusers.  {0} and {1}
# are the numbers in the prefix, {above} is the next finer level, and {below} counts levels from the
# coarsest.
_PREFIXES = (
  (r'down(\d+)_unit(\d+)/spatial', 'down_blocks.{0}.resnets.{1}'),
  (r'down(\d+)_unit(\d+)/attention', 'down_blocks.{0}.attentions.{1}'),
  (r'down(\d+)_spatial', 'down_blocks.{above}.downsamplers.0'),
  (r'middle_unit(\d+)/spatial', 'mid_block.resnets.{0}'),
  (r'middle_unit(\d+)/attention', 'mid_block.attentions.{0}'),
  (r'up(\d+)_unit(\d+)/spatial', 'up_blocks.{below}.resnets.{1}'),
  (r'up(\d+)_unit(\d+)/attention', 'up_blocks.{below}.attentions.{1}'),
  (r'up(\d+)_spatial', 'up_blocks.{below}.upsamplers.0'),
  (r'time', 'time_embedding'),
  (r'level', 'class_embedding'),
  (r'pool', 'add_embedding'),
)
_LAYERS = {
  'attention': {
    'norm': 'group_norm', 'norm_text': 'norm_cross', 'query': 'to_q', 'key': 'to_k',
    'value': 'to_v', 'text_key': 'add_k_proj', 'text_value': 'add_v_proj', 'proj': 'to_out.0',
  },
  'pool': {
    'norm_in': 'norm1', 'norm_out': 'norm2', 'query': 'pool.q_proj', 'key': 'pool.k_proj',
    'value': 'pool.v_proj', 'position': 'pool.positional_embedding',
  },
  '': {
    'dense1': 'linear_1', 'dense2': 'linear_2', 'emb': 'time_emb_proj', 'skip': 'conv_shortcut',
    'norm_out': 'conv_norm_out', 'text_proj': 'encoder_hid_proj',
  },
}  # fmt: skip
_LEAVES = {'kernel': '.weight', 'scale': '.weight', 'bias': '.bias', 'position': ''}


def diffusers_name(name: str, levels: int) -> str:
  """The name in diffusers of the parameter `name` of a model with so many levels."""
  prefix, layer, leaf = '', *name.rsplit('/', 2)[-2:]
  if leaf == 'position':
    layer = leaf
  for pattern, theirs in _PREFIXES:
    if match := re.match(pattern + '/', name):
      numbers = [int(i) for i in match.groups()]
      level = numbers[0] if numbers else 0
      prefix = theirs.format(*numbers, above=level - 1, below=levels - 1 - level) + '.'
      break
  block = next((b for b in ('attention', 'pool') if f'{b}/' in name), '')
  return prefix + _LAYERS[block].get(layer, layer) + _LEAVES[leaf]


def diffusers_names(model: STUNet, parameters: Iterable[str]) -> dict[str, str]:
  """The name in diffusers of every one of the model's spatial parameters, by its name here."""
  return {name: diffusers_name(name, len(model.channels)) for name in parameters}


def _attends(types, key, n):
  """Whether each of the n levels has attention."""
  _require(f'the number of {key}', len(types), n)
  for kind in types:
    if kind not in (*_PLAIN, *_ATTENDING):
      raise UserError(f'{key} has {kind}; in DeepFloyd IF are {", ".join(_PLAIN + _ATTENDING)}.')
  return tuple(kind in _ATTENDING for kind in types)


def _per_level(key, value, n):
  values = tuple(value) if isinstance(value, Sequence) else (value,) * n
  _require(f'the number of {key}', len(values), n)
  return values


def _head_features(value):
  sizes = {*value} if isinstance(value, Sequence) else {value}
  _require('the number of sizes in attention_head_dim', len(sizes), 1)
  return sizes.pop()


def _require(key, got, wanted):
  """UserError unless the value of the key is the one that IF has."""
  if got != wanted:
    raise UserError(f'{key} is {got!r}; in DeepFloyd IF it is {wanted!r}.')
