"""The U-Nets of DeepFloyd IF, as diffusers stores them: the same network in other words.

IF-I makes images of 64x64 pixels, IF-II makes them 256x256.  `config.json` of diffusers'
UNet2DConditionModel says more than differs between them; what is not said here in `_SAME` or
derived must be as it is there by default.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from core.condition import Condition
from core.errors import UserError
from core.params import names
from core.typing import Params
from stunet.unet import STUNet

_PLAIN = ('ResnetDownsampleBlock2D', 'ResnetUpsampleBlock2D')
_ATTENDING = ('SimpleCrossAttnDownBlock2D', 'SimpleCrossAttnUpBlock2D')

# What all of them have.  A key that a config lacks has diffusers' default, the second of these.
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
  'norm_num_groups': (32, 32),  # as the text's norm always has
  'resnet_time_scale_shift': ('scale_shift', 'default'),
  'time_embedding_type': ('positional', 'positional'),
  'timestep_post_act': (None, None),
}


def model_config(unet: Mapping[str, Any]) -> dict[str, Any]:
  """Keyword arguments of the STUNet, without temporal layers, which a `config.json` describes.

  ValueError where it is not one of IF-I or IF-II.
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
  blocks = _per_level('layers_per_block', unet['layers_per_block'], n)
  cross = unet.get('only_cross_attention', False)
  crosses = _per_level('only_cross_attention', cross, n)
  middle = unet.get('mid_block_only_cross_attention')
  middle = cross is True if middle is None else middle
  _require('mid_block_only_cross_attention', middle, crosses[-1])
  scale = unet.get('resnet_out_scale_factor', 1.0)
  # diffusers' own IF-II has 1.41421 for the square root of 2.
  middle = unet.get('mid_block_scale_factor', 1.0)
  _require('mid_block_scale_factor', math.isclose(middle, scale, rel_tol=1e-3), True)
  # One activation of the embedding for all blocks, or the same one in each.
  activation, early = unet.get('act_fn', 'silu'), unet.get('resnet_skip_time_act', False)
  _require(
    'time_embedding_act_fn', unet.get('time_embedding_act_fn'), activation if early else None
  )
  level = unet.get('class_embed_type')
  _require('class_embed_type', level in (None, 'timestep'), True)
  _require('in_channels', unet['in_channels'], 3 if level is None else 6)
  width = unet.get('encoder_hid_dim')
  return {
    'channels': channels,
    'down_units': blocks,
    'up_units': tuple(b + 1 for b in blocks),
    'attention': tuple(
      ('cross' if cross else 'joint') if a else 'none' for a, cross in zip(attends, crosses)
    ),
    'out_channels': unet['out_channels'],
    'resample': 'residual',
    'head_features': _head_features(unet.get('attention_head_dim', 8)),
    'text_features': unet['cross_attention_dim'] if width else 0,
    'pool_heads': unet.get('addition_embed_type_num_heads', 64),
    'emb_features': unet.get('time_embedding_dim') or 4 * channels[0],
    'noise_level_embedding': level is not None,
    'groups': 32,
    'activation': activation,
    'residual_scale': 1 / scale,
  }


def unet_config(model: STUNet, text_width: int, size: int) -> dict[str, Any]:
  """Inverse of `model_config`: the `config.json` of the model's image half.

  text_width: of the text that it is given.
  size: of its images, for which diffusers makes noise.

  ValueError where diffusers has no such model.
  """
  for key, wanted in (('patch', 1), ('resample', 'residual'), ('attend_after', 'unit'),
                      ('skip_scale', 1.0), ('groups', 32)):  # fmt: skip
    _require(f'model.{key}', getattr(model, key), wanted)
  _require('up_units', tuple(model.up_units), tuple(b + 1 for b in model.down_units))
  _require('attention of the coarsest level', model.attention[-1] == 'none', False)
  attends = [a != 'none' for a in model.attention]
  scale, emb = 1 / model.residual_scale, model.emb_features or 4 * model.channels[0]
  return {
    '_class_name': 'UNet2DConditionModel',
    **{key: wanted for key, (wanted, _) in _SAME.items()},
    'sample_size': size,
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
  """The parameters of the model for text of this width, as `jax.ShapeDtypeStruct`."""
  size = model.patch * 2 ** (len(model.channels) - 1)
  video = jax.ShapeDtypeStruct((1, 1, size, size, 3), jnp.float32)
  t = jax.ShapeDtypeStruct((1,), jnp.float32)
  text = jax.ShapeDtypeStruct((1, 1, text_width), jnp.float32)
  cond = Condition(text)
  if model.noise_level_embedding:
    cond = cond.replace(low_res=video, noise_level=t)
  return jax.eval_shape(model.init, jax.random.key(0), video, t, cond)['params']


# The place of a layer in diffusers' network, by its place in ours; {n} is the coarsest level.
_PLACES = (
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
  """What diffusers calls the parameter which a model of so many levels calls `name`."""
  place, layer, leaf = '', *name.rsplit('/', 2)[-2:]
  if leaf == 'position':
    layer = leaf
  for pattern, theirs in _PLACES:
    if found := re.match(pattern + '/', name):
      at = [int(i) for i in found.groups()]
      first = at[0] if at else 0
      place = theirs.format(*at, above=first - 1, below=levels - 1 - first) + '.'
      break
  owner = next((o for o in ('attention', 'pool') if f'{o}/' in name), '')
  return place + _LAYERS[owner].get(layer, layer) + _LEAVES[leaf]


def to_diffusers(array: np.ndarray) -> np.ndarray:
  """A kernel as torch has it: output channels first.  Vectors are the same."""
  match array.ndim:
    case 4:
      return array.transpose(3, 2, 0, 1)
    case 3:
      return array[0]  # the position of pooling
    case 2:
      return array.T
  return array


def from_diffusers(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Inverse of `to_diffusers`, for a parameter of this shape.  ValueError where it has another."""
  axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, range(array.ndim))
  ours = array[None] if len(shape) == 3 else array.transpose(*axes)
  if ours.shape != tuple(shape):
    raise UserError(f'Its shape is {array.shape}, which makes {ours.shape} and not {tuple(shape)}.')
  return ours


def diffusers_names(params: Params, levels: int) -> dict[str, str]:
  """Diffusers' name of every parameter, by ours."""
  return {name: diffusers_name(name, levels) for name in names(params)}


def _attends(types, key, n):
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
  if got != wanted:
    raise UserError(f'{key} is {got!r}; in DeepFloyd IF it is {wanted!r}.')
