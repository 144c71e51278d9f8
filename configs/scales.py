"""Sizes: what each stage of a scale overrides in `base.py`."""

SCALES = {}

# Seconds on a CPU: for the tests.
_TINY_MODEL = {
  'channels': (16, 32, 32),
  'down_blocks': (1, 1, 1),
  'up_blocks': (1, 1, 1),
  'attention': ('none', 'none', 'joint'),
  'temporal_strides': (1, 2, 2),
  'head_features': 8,
  'groups': 4,
  'pool_heads': 2,
  'temporal_attentions': 1,
}
_TINY = {
  'steps': 300,
  'model': _TINY_MODEL,
  'optim': {'learning_rate': 2e-3, 'warmup': 20},
  'ema_decay': 0.99,
  'sampling': {'steps': 8},
}
SCALES['tiny'] = {
  't2i': _TINY | {'data': {'size': 16, 'frames': 1}, 'loader': {'batch': 16}},
  't2v': _TINY | {'data': {'size': 16, 'frames': 16}, 'loader': {'batch': 4}},
}

# The models that ship: 80 frames of 32x32, trained on two CPU cores.
# The stem unshuffles 4x4 pixels: a CPU convolves wide features at 8x8 faster than narrow ones at
# 32x32.  Through so few features noise can't pass, as predictions of v and eps need, but the clean
# frame can (Li & He, 2025, "Back to Basics").  Noise is shifted by -2: a clip shows its content 80
# times, so what moves is decided at a lower log-SNR than in one frame.
_DEMO_MODEL = {
  'channels': (96, 96, 128),
  'down_blocks': (0, 1, 1),
  'up_blocks': (1, 1, 1),
  'attention': ('none', 'joint', 'joint'),
  'temporal_strides': (1, 2, 2),
  'patch': 4,
  'resample': 'conv',
  'head_features': 32,
  'groups': 16,
  'pool_heads': 4,
  'emb_features': 256,
  'activation': 'silu',
  'temporal_scale_shift': True,
}
_DEMO = {
  'model': _DEMO_MODEL,
  'schedule': {'shift': -2.0, 'prediction': 'x0'},
  'text': {'tokens': 12},
}
SCALES['demo'] = {
  't2i': _DEMO
  | {
    'steps': 2500,
    'data': {'frames': 1},
    'loader': {'batch': 32},
    'optim': {'learning_rate': 1e-3, 'warmup': 100, 'decay': 'cosine', 'weight_decay': 0.01},
    'ema_decay': 0.999,
  },
  't2v': _DEMO
  | {
    'steps': 1000,
    'loader': {'batch': 4},
    'optim': {'learning_rate': 2e-3, 'warmup': 50, 'decay': 'cosine', 'weight_decay': 0.01},
    'ema_decay': 0.995,
    'evaluate_every': 200,
    'evaluate_batch': 4,
    'sample_every': 1000,
    'save_every': 200,
  },
}


def apply(config, scale: str):
  """The config with the sizes of its stage at a scale."""
  if scale not in SCALES:
    raise ValueError(f'No scale {scale!r}; allowed are {", ".join(sorted(SCALES))}.')
  if config.stage not in SCALES[scale]:
    stages = ', '.join(sorted(SCALES[scale]))
    raise ValueError(f'Scale {scale!r} has no stage {config.stage!r}; it has {stages}.')
  for key, value in SCALES[scale][config.stage].items():
    if isinstance(value, dict):
      config[key].update(value)
    else:
      config[key] = value
  return config
