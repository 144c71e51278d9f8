"""The U-Nets of Stable Diffusion 1.x and 2.x as they are stored, converted to an STUNet and back.

They denoise the latents of an autoencoder, which have four channels and an eighth of the sides of
an image (Rombach et al., 2022).  Weights are stored in two layouts: that of diffusers, with a
`config.json`, and the original one, in one file with the autoencoder and the text encoder.  Keys of
a `config.json` of diffusers' UNet2DConditionModel that neither `_SAME` nor `model_config` reads
must be absent or have diffusers' default.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from core.condition import Condition
from core.errors import UserError
from core.frame_size import Size, height_width
from core.typing import Params
from stunet.unet import STUNet

_PLAIN = ('DownBlock2D', 'UpBlock2D')
_ATTENDING = ('CrossAttnDownBlock2D', 'CrossAttnUpBlock2D')
ORIGINAL = 'model.diffusion_model.'  # before all names of the original layout

# Keys whose value is the same in all U-Nets of Stable Diffusion: that value, and diffusers'
# default, which is the value where a config lacks the key.
_SAME = {
  'act_fn': ('silu', 'silu'),
  'addition_embed_type': (None, None),
  'attention_type': ('default', 'default'),
  'center_input_sample': (False, False),
  'class_embed_type': (None, None),
  'conv_in_kernel': (3, 3),
  'conv_out_kernel': (3, 3),
  'cross_attention_norm': (None, None),
  'downsample_padding': (1, 1),
  'dual_cross_attention': (False, False),
  'encoder_hid_dim': (None, None),
  'encoder_hid_dim_type': (None, None),
  'flip_sin_to_cos': (True, True),
  'freq_shift': (0, 0),
  'mid_block_only_cross_attention': (None, None),
  'mid_block_scale_factor': (1, 1),
  'mid_block_type': ('UNetMidBlock2DCrossAttn', 'UNetMidBlock2DCrossAttn'),
  'norm_eps': (1e-5, 1e-5),
  'num_attention_heads': (None, None),
  'num_class_embeds': (None, None),
  'only_cross_attention': (False, False),
  'resnet_out_scale_factor': (1.0, 1.0),
  'resnet_skip_time_act': (False, False),
  'resnet_time_scale_shift': ('default', 'default'),
  'time_cond_proj_dim': (None, None),
  'time_embedding_act_fn': (None, None),
  'time_embedding_type': ('positional', 'positional'),
  'timestep_post_act': (None, None),
}
# What the options of an STUNet are in all of them.
_OPTIONS = {
  'patch': 1,
  'resample': 'conv_after',
  'attend_after': 'unit',
  'middle_attention': 'transformer',
  'text_features': 0,
  'pool_text': False,
  'noise_level_embedding': False,
  'activation': 'silu',
  'embedding': 'add',
  'residual_scale': 1.0,
  'skip_scale': 1.0,
}


def model_config(unet: Mapping[str, Any]) -> dict[str, Any]:
  """Keyword arguments of the STUNet that a `config.json` describes, except those that are temporal.

  UserError unless it is a config of Stable Diffusion 1.x or 2.x.
  """
  for key, (wanted, default) in _SAME.items():
    _require(key, unet.get(key, default), wanted)
  _require('in_channels', unet['in_channels'], unet['out_channels'])
  text_width = unet['cross_attention_dim']
  _require('cross_attention_dim', text_width, text_width if isinstance(text_width, int) else 1024)
  channels = tuple(unet['block_out_channels'])
  n = len(channels)
  attends = _attends(unet['down_block_types'], 'down_block_types', n)
  ups = _attends(unet['up_block_types'], 'up_block_types', n)
  _require('up_block_types, from the last,', tuple(reversed(ups)), attends)
  units = _per_level('layers_per_block', unet.get('layers_per_block', 2), n)
  depths = {
    *_per_level('transformer_layers_per_block', unet.get('transformer_layers_per_block', 1), n)
  }
  _require('the number of values in transformer_layers_per_block', len(depths), 1)
  return {
    **_OPTIONS,
    'channels': channels,
    'down_units': units,
    'up_units': tuple(u + 1 for u in units),
    'attention': tuple('transformer' if a else 'none' for a in attends),
    'out_channels': unet['out_channels'],
    **_heads(unet.get('attention_head_dim', 8), channels),
    'transformer_depth': depths.pop(),
    'transformer_projection': 'dense' if unet.get('use_linear_projection', False) else 'conv',
    'emb_features': unet.get('time_embedding_dim') or 4 * channels[0],
    'groups': unet.get('norm_num_groups', 32),
  }


def unet_config(model: STUNet, text_width: int, size: Size) -> dict[str, Any]:
  """The inverse of `model_config`: the `config.json` of the spatial part of the model.

  text_width: the width of the text embeddings that the model is conditioned on.
  size: of its latents, a number if they are square, else height and width.

  UserError where diffusers has no such model.
  """
  for key, wanted in _OPTIONS.items():
    _require(f'model.{key}', getattr(model, key), wanted)
  _require('up_units', tuple(model.up_units), tuple(u + 1 for u in model.down_units))
  attends = [a == 'transformer' for a in model.attention]
  height, width = height_width(size)
  heads = model.heads or [c // model.head_features for c in model.channels]
  return {
    '_class_name': 'UNet2DConditionModel',
    **{key: wanted for key, (wanted, _) in _SAME.items()},
    'sample_size': height if height == width else [height, width],
    'in_channels': model.out_channels,
    'out_channels': model.out_channels,
    'block_out_channels': list(model.channels),
    'down_block_types': [_ATTENDING[0] if a else _PLAIN[0] for a in attends],
    'up_block_types': [_ATTENDING[1] if a else _PLAIN[1] for a in reversed(attends)],
    'layers_per_block': list(model.down_units),
    'transformer_layers_per_block': model.transformer_depth,
    'attention_head_dim': heads,  # which diffusers reads as the number of heads
    'use_linear_projection': model.transformer_projection == 'dense',
    'cross_attention_dim': text_width,
    'time_embedding_dim': model.emb_features or None,
    'norm_num_groups': model.groups,
  }


def shapes(model: STUNet, text_width: int) -> Params:
  """The parameters of the model for text embeddings of this width, as `jax.ShapeDtypeStruct`s."""
  latents = jax.ShapeDtypeStruct((1, 1, 1, 1, model.out_channels), jnp.float32)
  t = jax.ShapeDtypeStruct((1,), jnp.float32)
  cond = Condition(jax.ShapeDtypeStruct((1, 1, text_width), jnp.float32))
  return jax.eval_shape(model.init, jax.random.key(0), latents, t, cond)['params']


# Names of layers here, in diffusers, and in the original layout.
_OUTER = (
  ('conv_in', 'conv_in', 'input_blocks.0.0'),
  ('time/dense1', 'time_embedding.linear_1', 'time_embed.0'),
  ('time/dense2', 'time_embedding.linear_2', 'time_embed.2'),
  ('norm_out', 'conv_norm_out', 'out.0'),
  ('conv_out', 'conv_out', 'out.2'),
)
_RESBLOCK = (
  ('norm1', 'norm1', 'in_layers.0'),
  ('conv1', 'conv1', 'in_layers.2'),
  ('emb', 'time_emb_proj', 'emb_layers.1'),
  ('norm2', 'norm2', 'out_layers.0'),
  ('conv2', 'conv2', 'out_layers.3'),
  ('skip', 'conv_shortcut', 'skip_connection'),
)
_TRANSFORMER = (('norm', 'norm'), ('proj_in', 'proj_in'), ('proj_out', 'proj_out'))
_BLOCK = (
  ('norm1', 'norm1'),
  ('self_attention/query', 'attn1.to_q'),
  ('self_attention/key', 'attn1.to_k'),
  ('self_attention/value', 'attn1.to_v'),
  ('self_attention/proj', 'attn1.to_out.0'),
  ('norm2', 'norm2'),
  ('text_attention/query', 'attn2.to_q'),
  ('text_attention/key', 'attn2.to_k'),
  ('text_attention/value', 'attn2.to_v'),
  ('text_attention/proj', 'attn2.to_out.0'),
  ('norm3', 'norm3'),
  ('feed_forward/dense1', 'ff.net.0.proj'),
  ('feed_forward/dense2', 'ff.net.2'),
)
_LEAVES = {'kernel': '.weight', 'scale': '.weight', 'bias': '.bias'}


def diffusers_names(model: STUNet, parameters: Iterable[str]) -> dict[str, str]:
  """The name in diffusers of every one of the model's spatial parameters, by its name here."""
  return _named({ours: theirs for ours, theirs, _ in _layers(model)}, parameters)


def original_names(model: STUNet, parameters: Iterable[str]) -> dict[str, str]:
  """The same names in the original layout."""
  return _named({ours: ORIGINAL + original for ours, _, original in _layers(model)}, parameters)


def _named(layers, parameters):
  split = ((name, *name.rsplit('/', 1)) for name in parameters)
  return {name: layers[layer] + _LEAVES[leaf] for name, layer, leaf in split}


def _layers(model: STUNet) -> Iterator[tuple[str, str, str]]:
  """The names of every layer, and of some that the model may lack, as in the tables above."""
  yield from _OUTER
  coarsest, n = len(model.channels) - 1, 1  # the original layout numbers all units of a way
  for i, units in enumerate(model.down_units):
    if i > 0:
      yield f'down{i}_spatial', f'down_blocks.{i - 1}.downsamplers.0.conv', f'input_blocks.{n}.0.op'
      n += 1
    for j in range(units):
      block = f'down{i}_unit{j}', f'down_blocks.{i}', f'input_blocks.{n}'
      yield from _unit(model, *block, j)
      n += 1
  yield from _unit(model, 'middle_unit0', 'mid_block', 'middle_block', 0)
  yield from _resblock('middle_unit1', 'mid_block.resnets.1', 'middle_block.2')
  n = 0
  for i, units in reversed(list(enumerate(model.up_units))):
    above = f'up_blocks.{coarsest - i}'
    for j in range(units):
      yield from _unit(model, f'up{i}_unit{j}', above, f'output_blocks.{n}', j)
      n += 1
    place = 2 if model.attention[i] == 'transformer' else 1
    original = f'output_blocks.{n - 1}.{place}.conv'
    yield f'up{i}_spatial', f'{above}.upsamplers.0.conv', original


def _unit(model, ours, theirs, original, j):
  yield from _resblock(ours, f'{theirs}.resnets.{j}', f'{original}.0')
  ours, theirs, original = f'{ours}/transformer', f'{theirs}.attentions.{j}', f'{original}.1'
  yield from ((f'{ours}/{a}', f'{theirs}.{b}', f'{original}.{b}') for a, b in _TRANSFORMER)
  for k in range(model.transformer_depth):
    block = f'transformer_blocks.{k}'
    for a, b in _BLOCK:
      yield f'{ours}/block{k}/{a}', f'{theirs}.{block}.{b}', f'{original}.{block}.{b}'


def _resblock(ours, theirs, original):
  for a, b, c in _RESBLOCK:
    yield f'{ours}/spatial/{a}', f'{theirs}.{b}', f'{original}.{c}'


def _attends(types, key, n):
  """Whether each of the n levels has attention."""
  _require(f'the number of {key}', len(types), n)
  for kind in types:
    if kind not in (*_PLAIN, *_ATTENDING):
      allowed = ', '.join(_PLAIN + _ATTENDING)
      raise UserError(f'{key} has {kind}; in Stable Diffusion are {allowed}.')
  return tuple(kind in _ATTENDING for kind in types)


def _per_level(key, value, n):
  values = tuple(value) if isinstance(value, Sequence) else (value,) * n
  _require(f'the number of {key}', len(values), n)
  return values


def _heads(value, channels):
  """The number of heads of all levels or, where levels differ in it, the features of a head."""
  heads = _per_level('attention_head_dim', value, len(channels))
  if len({*heads}) == 1:
    return {'heads': heads[0]}
  sizes = {c / h for c, h in zip(channels, heads)}
  _require('the number of sizes of heads', len(sizes), 1)
  return {'heads': 0, 'head_features': int(sizes.pop())}


def _require(key, got, wanted):
  """UserError unless the value of the key is the one that Stable Diffusion has."""
  if got != wanted:
    raise UserError(f'{key} is {got!r}; in Stable Diffusion it is {wanted!r}.')
