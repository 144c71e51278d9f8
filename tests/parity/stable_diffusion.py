"""Small U-Nets of Stable Diffusion in diffusers."""

import numpy as np
import torch
from diffusers import UNet2DConditionModel

_COMMON = {'in_channels': 4, 'out_channels': 4, 'norm_num_groups': 8, 'sample_size': 8}


def _levels(attends: tuple[bool, ...]) -> dict:
  """The types of blocks of levels with attention or without it."""
  return {
    'down_block_types': ['CrossAttnDownBlock2D' if a else 'DownBlock2D' for a in attends],
    'up_block_types': ['CrossAttnUpBlock2D' if a else 'UpBlock2D' for a in reversed(attends)],
  }


_FOUR, _TWO = _levels((True, True, True, False)), _levels((True, False))
# Of 1.x: a number of heads, the same at every level, and projections by convolutions.
_FIRST = _COMMON | _FOUR | {
  'block_out_channels': [16, 32, 64, 64],
  'layers_per_block': 2,
  'attention_head_dim': 8,
  'cross_attention_dim': 24,
}  # fmt: skip
# Of 2.x: a number of features of a head, and dense projections.
_SECOND = _FIRST | {
  'attention_head_dim': [2, 4, 8, 8],
  'cross_attention_dim': 40,
  'use_linear_projection': True,
}
_SMALL = {'block_out_channels': [16, 32], 'layers_per_block': 1, 'attention_head_dim': 2} | _TWO

CONFIGS = {
  '1.x': _FIRST,
  '2.x': _SECOND,
  '1.x, dense projections': _FIRST | {'use_linear_projection': True, 'norm_num_groups': 16},
  '2.x, projections by convolutions': _SECOND | {'use_linear_projection': False},
  '1.x, 12x20': _FIRST | {'sample_size': [12, 20]},
  '2.x, 9x7': _SECOND | {'sample_size': [9, 7]},
  'two levels, transformers of two blocks': _FIRST | _SMALL | {'transformer_layers_per_block': 2},
  'units by level, all attend': _FIRST | _SMALL | _levels((True, True)) | {
    'layers_per_block': [1, 2]
  },
}  # fmt: skip


def inputs(config: dict, seed: int = 0) -> dict[str, np.ndarray]:
  """Two latents, their steps and texts."""
  rng, size = np.random.default_rng(seed), config['sample_size']
  height, width = (size, size) if isinstance(size, int) else size
  return {
    'x': rng.standard_normal((2, config['in_channels'], height, width), np.float32),
    'step': np.array([10, 900]),
    'text': rng.standard_normal((2, 7, config['cross_attention_dim']), np.float32),
  }


def output(unet: UNet2DConditionModel, given: dict[str, np.ndarray]) -> np.ndarray:
  """The output of the U-Net for these inputs."""
  x, step, text = (torch.from_numpy(given[k]) for k in ('x', 'step', 'text'))
  with torch.no_grad():
    return unet(x, step, text).sample.numpy()
