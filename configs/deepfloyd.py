"""Sizes of DeepFloyd IF, whose image models are imported: python convert.py.

What is theirs is of their published configs; of IF-II-M the widths are what its size suggests.  Of
what is Lumiere's, time is halved with space, to 10 frames of 8x8 pixels; in super-resolution to two
of a window's eight, at its two coarsest levels.
"""

_IF_MODEL = {
  'down_units': (3, 3, 3, 3),
  'up_units': (4, 4, 4, 4),
  'attention': ('none', 'joint', 'joint', 'joint'),
  'temporal_strides': (1, 2, 2, 2),
  'temporal_attentions': (0, 0, 0, 1),
  'head_features': 64,
  'out_channels': 6,  # of which three say the variance
  'pool_heads': 64,
  'activation': 'gelu',
  'dtype': 'bfloat16',
}
_IF = {
  'schedule': {'schedule': 'discrete_cosine', 'prediction': 'eps'},
  # T5 XXL; the source is the folder that python -m text.convert wrote.  IF attends to all places.
  'text': {
    'source': '',
    'tokens': 77,
    'width': 4096,
    'dtype': 'bfloat16',
    'mask_padding': False,
  },
}
_IF_SAMPLING = {
  'sampler': 'ddpm_learned',
  'steps': 100,
  'guidance': 7.0,
  'spacing': 'leading',
  'threshold': 'dynamic_if',
}
_IF_SSR_MODEL = _IF_MODEL | {
  'down_units': (2, 2, 3, 5, 5),
  'up_units': (3, 3, 4, 6, 6),
  'attention': ('none', 'none', 'none', 'joint', 'joint'),
  'temporal_strides': (1, 1, 2, 2, 1),
  'temporal_attentions': (0, 0, 0, 0, 1),
  'resample': 'residual',
  'residual_scale': 2**-0.5,
}
_IF_SSR = _IF | {
  # Noise on what was upsampled, at index 250 of 1000; nothing is blurred.
  'degrade': {'factor': 4, 'level': 1.0, 'blur': 0.0, 'augment': 'upsampled'},
  'sampling': _IF_SAMPLING
  | {'steps': 50, 'guidance': 4.0, 'threshold': 'static', 'aug_level': 0.251},
}


# Training here is by L_simple, which says nothing of the variance: what is learned of it drifts.
_TRAINED = {'sampler': 'ddpm_small'}


def _stages(base: int, large: int):
  """The stages of two image models of these widths, in channels of the finest level."""
  wide = {'channels': tuple(base * k for k in (1, 2, 3, 4)), 'text_features': 4 * base}
  model = {'model': _IF_MODEL | wide}
  images = {'data': {'size': 64, 'frames': 1}, 'loader': {'batch': 256}, 'ema_decay': 0.999}
  clips = {'data': {'size': 64}, 'loader': {'batch': 64}, 'mesh': (('data', 1), ('fsdp', -1))}
  # IF was trained at up to 1e-4, its temporal layers begin at the rate of Lumiere's at its size.
  optim = {'optim': {'name': 'adafactor', 'learning_rate': 1e-5, 'warmup': 10_000}}
  sampling, trained = {'sampling': _IF_SAMPLING}, {'sampling': _IF_SAMPLING | _TRAINED}
  wide = {
    'channels': tuple(large * k for k in (1, 2, 4, 6, 8)),
    'text_features': 8 * large,
    'emb_features': 8 * large,
  }
  upscaler = _IF_SSR | {'model': _IF_SSR_MODEL | wide} | optim
  return {
    't2i': _IF | model | sampling | images | optim,
    't2v': _IF | model | trained | clips | optim | {'steps': 200_000},
    't2v_masked': _IF | model | trained | clips | optim | {'steps': 50_000},
    'style': _IF
    | model
    | trained
    | optim
    | {'steps': 500, 'data': {'size': 64, 'frames': 1}, 'loader': {'batch': 8}}
    | {'ema_decay': 0.98},
    'ssr_image': upscaler
    | {'data': {'size': 256, 'shorter_side': 256, 'frames': 1}, 'ema_decay': 0.999},
    'ssr': upscaler
    | {'sampling': _IF_SSR['sampling'] | _TRAINED}
    | {'steps': 200_000, 'data': {'size': 256, 'shorter_side': 256}, 'loader': {'batch': 64}},
  }


SCALES = {
  'if_m': _stages(192, 96),
  'if_l': _stages(320, 160),
  'if_xl': _stages(704, 160),
}
