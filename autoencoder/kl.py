"""The AutoencoderKL of diffusers, in which Stable Diffusion stores its autoencoder: its
`config.json` and the names of its tensors, as those here and back."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from autoencoder.network import Autoencoder
from core.errors import UserError
from core.params import names

_DOWN, _UP = 'DownEncoderBlock2D', 'UpDecoderBlock2D'
# Keys whose value is the same in every network here: that value, and diffusers' default, which is
# the value where a config lacks the key.
_SAME = {
  'act_fn': ('silu', 'silu'),
  'in_channels': (3, 3),
  'latents_mean': (None, None),
  'latents_std': (None, None),
  'mid_block_add_attention': (True, True),
  'out_channels': (3, 3),
  'shift_factor': (None, None),
  'use_post_quant_conv': (True, True),
  'use_quant_conv': (True, True),
}
# Names here, as regular expressions, and those of diffusers.  {0} and {1} are the numbers in the
# name, and {below} counts levels from the coarsest.
_PREFIXES = (
  (r'encoder/down(\d+)_unit(\d+)', 'encoder.down_blocks.{0}.resnets.{1}'),
  (r'encoder/down(\d+)_resample', 'encoder.down_blocks.{0}.downsamplers.0.conv'),
  (r'decoder/up(\d+)_unit(\d+)', 'decoder.up_blocks.{below}.resnets.{1}'),
  (r'decoder/up(\d+)_resample', 'decoder.up_blocks.{below}.upsamplers.0.conv'),
  (r'(encoder|decoder)/middle/unit(\d+)', '{0}.mid_block.resnets.{1}'),
  (r'(encoder|decoder)/middle/attention', '{0}.mid_block.attentions.0'),
  (r'(encoder|decoder)/norm_out', '{0}.conv_norm_out'),
  (r'(encoder|decoder)', '{0}'),
  (r'quant', 'quant_conv'),
  (r'post_quant', 'post_quant_conv'),
)
_LAYERS = {
  'norm': 'group_norm', 'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj': 'to_out.0',
  'skip': 'conv_shortcut',
}  # fmt: skip
# What attention was named before diffusers 0.17; published weights still are.
_OLD_ATTENTION = {'to_q': 'query', 'to_k': 'key', 'to_v': 'value', 'to_out.0': 'proj_attn'}
_TO_TORCH = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # axes of ours, by their number
_LEAVES = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}


def model_of(config: Mapping[str, Any]) -> Autoencoder:
  """The network that a `config.json` of diffusers describes; UserError if it is another network."""
  _require('_class_name', config.get('_class_name'), 'AutoencoderKL')
  for key, (wanted, default) in _SAME.items():
    _require(key, config.get(key, default), wanted)
  channels = tuple(config['block_out_channels'])
  _require('down_block_types', [*config['down_block_types']], [_DOWN] * len(channels))
  _require('up_block_types', [*config['up_block_types']], [_UP] * len(channels))
  return Autoencoder(
    channels=channels,
    units=config['layers_per_block'],
    latent_channels=config['latent_channels'],
    groups=config.get('norm_num_groups', 32),
    scaling=config.get('scaling_factor', 0.18215),  # files of 2022 lack it
  )


def config_of(model: Autoencoder, size: int) -> dict[str, Any]:
  """The inverse of `model_of`; `size` is the side of the images of training, in pixels."""
  return {
    '_class_name': 'AutoencoderKL',
    **{key: wanted for key, (wanted, _) in _SAME.items()},
    'block_out_channels': list(model.channels),
    'down_block_types': [_DOWN] * len(model.channels),
    'up_block_types': [_UP] * len(model.channels),
    'layers_per_block': model.units,
    'latent_channels': model.latent_channels,
    'norm_num_groups': model.groups,
    'sample_size': size,
    'scaling_factor': model.scaling,
  }


def shapes(model: Autoencoder) -> dict[str, tuple[int, ...]]:
  """The shapes of the model's parameters, by name."""
  frames = jax.ShapeDtypeStruct((1, model.factor, model.factor, 3), jnp.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), frames)['params']
  return {name: p.shape for name, p in names(params).items()}


def diffusers_name(name: str, levels: int) -> str:
  """The name in diffusers of the parameter `name` of a model with so many levels."""
  path, _, leaf = name.rpartition('/')
  for pattern, theirs in _PREFIXES:
    if match := re.match(rf'{pattern}(/|$)', path):
      *numbers, _ = match.groups()
      below = levels - 1 - int(numbers[0]) if '{below}' in theirs else None
      layer = path[match.end() :]
      parts = theirs.format(*numbers, below=below), _LAYERS.get(layer, layer), _LEAVES[leaf]
      return '.'.join(part for part in parts if part)
  raise KeyError(name)


def stored_name(name: str, levels: int, stored: Collection[str]) -> str:
  """The name in diffusers among the names `stored`, which may be old; else the new name."""
  new = diffusers_name(name, levels)
  for layer, old in _OLD_ATTENTION.items():
    older = new.replace(f'.{layer}.', f'.{old}.')
    if new not in stored and older in stored:
      return older
  return new


def to_diffusers(array: np.ndarray) -> np.ndarray:
  """The parameter with its axes in torch's order, output channels first; vectors are the same."""
  return array.transpose(_TO_TORCH[array.ndim])


def diffusers_shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
  """The shapes which the parameter of this shape may have in diffusers.

  Attention was made of 1x1 convolutions in the original code, and converted files may still be.
  """
  theirs = tuple(shape[axis] for axis in _TO_TORCH[len(shape)])
  return (theirs, (*theirs, 1, 1)) if len(shape) == 2 else (theirs,)


def from_diffusers(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """The inverse of `to_diffusers`, for a parameter whose shape here is `shape`."""
  axes = _TO_TORCH[len(shape)]
  return array.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))


def _require(key, got, wanted):
  """UserError unless the value of the key is the one that these networks have."""
  if got != wanted:
    raise UserError(f'{key} is {got!r}; in AutoencoderKL of Stable Diffusion it is {wanted!r}.')
