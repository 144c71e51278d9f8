"""The models of DeepFloyd IF, whose image models `convert.py` imports: docs/pretrained.md.

The sizes are those of the published configs of IF.  IF-II-M's widths are inferred from its number
of parameters.  The temporal sizes are our choice: in the base model, time is halved with space,
from 80 to 10 frames of 8x8 pixels; in super-resolution it is halved at two levels, from the eight
frames of a window to two.
"""

from configs import models
from configs.scales import merge

_NETWORK = {
  'model': {
    'down_units': (3, 3, 3, 3),
    'up_units': (4, 4, 4, 4),
    'attention': ('none', 'joint', 'joint', 'joint'),
    'temporal_strides': (1, 2, 2, 2),
    'temporal_attentions': (0, 0, 0, 1),
    'head_features': 64,
    'out_channels': 6,  # three for the noise, and three for its variance
    'pool_heads': 64,
    'activation': 'gelu',
    'dtype': 'bfloat16',
  },
  'schedule': {'schedule': 'discrete_cosine', 'prediction': 'eps'},
  # T5 XXL.  `source` is to be the folder that `python -m text.convert` wrote.  IF was trained to
  # attend to all 77 places, padding included.
  'text': {
    'source': '',
    'tokens': 77,
    'width': 4096,
    'dtype': 'bfloat16',
    'mask_padding': False,
  },
  'data': {'size': 64},
  # IF was trained at rates up to 1e-4.  Temporal layers start at the rate of Lumiere's.
  'optim': {'name': 'adafactor', 'learning_rate': 1e-5, 'warmup': 10_000},
  'sampling': {
    'sampler': 'ddpm_learned',
    'steps': 100,
    'guidance': 7.0,
    'spacing': 'leading',
    'threshold': 'dynamic_if',
  },
}
_MODEL = merge(models.MANY_CHIPS, _NETWORK)
_SSR = merge(
  _MODEL,
  {
    'model': {
      'down_units': (2, 2, 3, 5, 5),
      'up_units': (3, 3, 4, 6, 6),
      'attention': ('none', 'none', 'none', 'joint', 'joint'),
      'temporal_strides': (1, 1, 2, 2, 1),
      'temporal_attentions': (0, 0, 0, 0, 1),
      'resample': 'residual',
      'residual_scale': 2**-0.5,
    },
    'data': {'size': 256, 'shorter_side': 256},
    # Nothing is blurred.  Noise is added to the upsampled frames; when sampling, that of index 250
    # of IF's 1000 levels.
    'degrade': {'factor': 4, 'level': 1.0, 'blur': 0.0, 'augment': 'upsampled'},
    'sampling': {'steps': 50, 'guidance': 4.0, 'threshold': 'static', 'aug_level': 0.251},
  },
)


def _base(width: int) -> dict:
  """The first stage, with so many channels at its finest level."""
  channels = tuple(width * k for k in (1, 2, 3, 4))
  return merge(_MODEL, {'model': {'channels': channels, 'text_features': 4 * width}})


def _ssr(width: int) -> dict:
  """The second stage, with so many channels at its finest level."""
  channels = tuple(width * k for k in (1, 2, 4, 6, 8))
  widths = {'channels': channels, 'text_features': 8 * width, 'emb_features': 8 * width}
  return merge(_SSR, {'model': widths})


IF_M, IF_L, IF_XL = _base(192), _base(320), _base(704)
# There is no IF-II-XL: IF-I-XL is published with IF-II-L.
IF_M_SSR, IF_L_SSR = _ssr(96), _ssr(160)

# Our loss is L_simple, which does not train the predicted variance.  A network that was trained
# here is therefore sampled with the smallest variance, and not with the one that it predicts.
TRAINED_HERE = {'sampling': {'sampler': 'ddpm_small'}}
# What the video stages share.
VIDEO = merge(TRAINED_HERE, {'loader': {'batch': 64}})
