"""The models of Stable Diffusion, whose U-Nets `convert.py` imports: docs/latent.md.

The sizes are those of the published configs.  The temporal ones are our choice: time is halved with
space, from 80 to 10 frames of 8x8 latents.
"""

from configs import models
from configs.scales import merge

_NETWORK = {
  'model': {
    'channels': (320, 640, 1280, 1280),
    'down_units': (2, 2, 2, 2),
    'up_units': (3, 3, 3, 3),
    'attention': ('transformer', 'transformer', 'transformer', 'none'),
    'middle_attention': 'transformer',
    'temporal_strides': (1, 2, 2, 2),
    'temporal_attentions': (0, 0, 0, 1),
    'out_channels': 4,
    'resample': 'conv_after',
    'pool_text': False,
    'embedding': 'add',
    'activation': 'silu',
    'dtype': 'bfloat16',
  },
  'schedule': {'schedule': 'scaled_linear', 'prediction': 'eps'},
  # All 77 places of CLIP's text encoder are attended to, padding included.
  'text': {
    'source': '',
    'tokens': 77,
    'width': 768,
    'dtype': 'bfloat16',
    'mask_padding': False,
  },
  'data': {'size': 64},  # latents of 512x512 pixels
}
_MODEL = merge(models.MANY_CHIPS, _NETWORK)

SD15 = merge(
  _MODEL,
  {
    'model': {'heads': 8, 'transformer_projection': 'conv'},
  },
)
SD21 = merge(
  _MODEL,
  {
    'model': {'head_features': 64, 'transformer_projection': 'dense'},
    'text': {'width': 1024},
    'schedule': {'prediction': 'v'},
    'data': {'size': 96},  # latents of 768x768 pixels
  },
)
# For the tests: a few levels and features.
SD_TINY = merge(
  SD15,
  {
    'model': {
      'channels': (16, 32, 32),
      'down_units': (1, 1, 1),
      'up_units': (2, 2, 2),
      'attention': ('transformer', 'transformer', 'none'),
      'temporal_strides': (1, 2, 2),
      'temporal_attentions': (0, 0, 1),
      'heads': 2,
      'groups': 8,
      'dtype': 'float32',
    },
    'text': {'width': 32, 'dtype': 'float32'},
    'data': {'size': 8},
  },
)
