"""Checks of a network's config and of its inputs, with an error that says what is allowed."""

import flax.linen as nn

from core.condition import Condition
from core.errors import UserError
from core.frame_size import require_multiples
from core.typing import Video
from stunet.layers import ACTIVATIONS

PER_LEVEL = ('down_units', 'up_units', 'attention', 'temporal_strides', 'temporal_attentions')
ALLOWED = {
  'attention': ('cross', 'joint', 'none', 'transformer'),
  'middle_attention': ('', 'cross', 'joint', 'none', 'transformer'),
  'resample': ('conv', 'conv_after', 'residual'),
  'attend_after': ('level', 'unit'),
  'activation': tuple(sorted(ACTIVATIONS)),
  'embedding': ('add', 'scale_shift'),
  'transformer_projection': ('conv', 'dense'),
}


def check_config(model: nn.Module) -> None:
  """UserError unless the fields of the STUNet fit each other."""
  levels = len(model.channels)
  if wrong := [n for n in PER_LEVEL if len(getattr(model, n)) != levels]:
    raise UserError(f'{levels} levels in channels, but not in {wrong}.')
  for name, allowed in ALLOWED.items():
    value = getattr(model, name)
    for v in (value,) if isinstance(value, str) else value:
      if v not in allowed:
        raise UserError(f'{name} is {v!r}; allowed are {", ".join(allowed)}.')
  if model.temporal_strides[0] != 1:
    raise UserError(
      f'temporal_strides begins with {model.temporal_strides[0]}; it must be 1, because nothing '
      'is resampled before level 0.'
    )
  if model.frame_step != int(model.frame_step) or model.frame_step < 1:
    raise UserError(f'frame_step is {model.frame_step:g}; allowed are whole numbers from 1.')
  for i in range(levels):
    _check_level(model, i)


def _check_level(model, i):
  down, up, c = model.down_units[i], model.up_units[i], model.channels[i]
  if up > down + 1:
    raise UserError(f'Level {i} has {up} up_units; its down_units allow at most {down + 1}.')
  attends = model.attention[i] != 'none' or (model.temporal and model.temporal_attentions[i] > 0)
  attends |= i == len(model.channels) - 1 and model.middle_attention not in ('', 'none')
  heads = 'heads' if model.heads else 'head_features'
  for name in ('groups', heads) if attends else ('groups',):
    if c % (n := getattr(model, name)):
      raise UserError(f'Level {i} has {c} channels, which do not divide by {name}={n}.')


def check_frames(frames: int, factor: int) -> None:
  """UserError unless a clip may have so many frames: one, or a multiple of the temporal factor."""
  if frames != 1 and (frames < 1 or frames % factor):
    below = max(frames, 0) // factor * factor
    near = ' or '.join(map(str, sorted({below or 1, below + factor})))
    raise UserError(
      f'{frames} frames do not divide by the temporal factor {factor} of the model: use 1 or a '
      f'multiple of {factor}; the nearest are {near}.'
    )


def check_inputs(model: nn.Module, x: Video, cond: Condition) -> None:
  """UserError unless the STUNet can be applied to this video and condition."""
  check_frames(x.shape[1], model.temporal_factor)
  require_multiples(x.shape[2:4], model.spatial_factor)
  if model.noise_level_embedding != (cond.noise_level is not None):
    raise UserError('The condition has a noise level if and only if the model embeds one.')
