"""Small U-Nets of DeepFloyd IF in diffusers, with weights none of which is zero."""

import numpy as np
import torch
from diffusers import UNet2DConditionModel

_COMMON = {
  'sample_size': 8,
  'out_channels': 6,
  'act_fn': 'gelu',
  'addition_embed_type': 'text',
  'mid_block_type': 'UNetMidBlock2DSimpleCrossAttn',
  'cross_attention_norm': 'group_norm',
  'resnet_time_scale_shift': 'scale_shift',
}


def _levels(plain: int, attending: int) -> dict:
  """So many levels without attention, then so many with it."""
  return {
    'down_block_types': ['ResnetDownsampleBlock2D'] * plain
    + ['SimpleCrossAttnDownBlock2D'] * attending,
    'up_block_types': ['SimpleCrossAttnUpBlock2D'] * attending + ['ResnetUpsampleBlock2D'] * plain,
  }


# IF-I-M, -L and -XL: widths of 1, 2, 3, 4 times one, three blocks each, and 64 heads of pooling.
_FIRST = _COMMON | _levels(1, 3) | {'in_channels': 3, 'layers_per_block': 3}
# IF-II-M and -L: widths of 1, 2, 4, 6, 8 times one, and what embeds the noise level.
_SECOND = _COMMON | _levels(3, 2) | {
  'in_channels': 6,
  'layers_per_block': [2, 2, 3, 5, 5],
  'class_embed_type': 'timestep',
  'time_embedding_act_fn': 'gelu',
  'resnet_skip_time_act': True,
  'resnet_out_scale_factor': 1.41421,
  'mid_block_scale_factor': 1.41421,
  'sample_size': 16,
}  # fmt: skip


def _first(base: int, text: int, heads: int, head: int, **other) -> dict:
  return _FIRST | {
    'block_out_channels': [base, 2 * base, 3 * base, 4 * base],
    'encoder_hid_dim': text,
    'cross_attention_dim': 4 * base,
    'addition_embed_type_num_heads': heads,
    'attention_head_dim': head,
  } | other  # fmt: skip


def _second(base: int, text: int, heads: int, head: int, **other) -> dict:
  return _SECOND | {
    'block_out_channels': [base * k for k in (1, 2, 4, 6, 8)],
    'encoder_hid_dim': text,
    'cross_attention_dim': 8 * base,
    'addition_embed_type_num_heads': heads,
    'attention_head_dim': head,
    'time_embedding_dim': 8 * base,
  } | other  # fmt: skip


CONFIGS = {
  'IF-I-M': _first(32, 48, 4, 8),
  'IF-I-L': _first(32, 64, 8, 16),
  'IF-I-XL': _first(64, 32, 16, 32),
  'IF-II-M': _second(32, 32, 4, 8),
  'IF-II-L': _second(32, 64, 8, 16),
  'IF-II at root 2': _second(32, 32, 2, 32, resnet_out_scale_factor=2**0.5,
                             mid_block_scale_factor=2**0.5),
  'two levels, text as it is': _first(32, 32, 4, 8, layers_per_block=[1, 2], sample_size=8,
    block_out_channels=[32, 64], encoder_hid_dim=None, cross_attention_dim=32, **_levels(1, 1)),
  'to the text alone': _first(32, 32, 4, 8, only_cross_attention=True,
                              mid_block_only_cross_attention=True, act_fn='silu'),
}  # fmt: skip


def random_unet(config: dict, seed: int = 0) -> UNet2DConditionModel:
  """The U-Net of a config with weights about as large as those of a trained one."""
  torch.manual_seed(seed)
  unet = UNet2DConditionModel(**config).eval().requires_grad_(False)
  for name, weight in unet.named_parameters():
    noise = torch.randn_like(weight)
    if weight.ndim > 1:
      weight.copy_(noise / weight[0].numel() ** 0.5)
    else:
      weight.copy_(0.1 * noise + (1.0 if 'norm' in name and name.endswith('weight') else 0.0))
  return unet


def inputs(config: dict, seed: int = 0) -> dict[str, np.ndarray]:
  """What the U-Net of a config may be given: two images, steps, levels and texts."""
  rng, size = np.random.default_rng(seed), config['sample_size']
  width = config['encoder_hid_dim'] or config['cross_attention_dim']
  return {
    'x': rng.standard_normal((2, config['in_channels'], size, size), np.float32),
    'step': np.array([10, 900]),
    'level': np.array([250, 3]),
    'text': rng.standard_normal((2, 7, width), np.float32),
  }


def answer(unet: UNet2DConditionModel, given: dict[str, np.ndarray]) -> np.ndarray:
  """What the U-Net makes of it."""
  x, step, level, text = (torch.from_numpy(given[k]) for k in ('x', 'step', 'level', 'text'))
  level = level if unet.config.class_embed_type else None
  with torch.no_grad():
    return unet(x, step, text, class_labels=level).sample.numpy()
