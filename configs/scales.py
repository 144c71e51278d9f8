"""Sizes: what each stage of a scale overrides in `base.py`."""

from configs import deepfloyd

SCALES = {}

# Seconds on a CPU: for the tests.
_TINY_MODEL = {
  'channels': (16, 32, 32),
  'down_units': (1, 1, 1),
  'up_units': (1, 1, 1),
  'attention': ('none', 'none', 'joint'),
  'temporal_strides': (1, 2, 2),
  'head_features': 8,
  'groups': 4,
  'pool_heads': 2,
  'temporal_attentions': (0, 0, 1),
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
  't2v_masked': _TINY | {'data': {'size': 16, 'frames': 16}, 'loader': {'batch': 4}},
  'style': _TINY | {'data': {'size': 16, 'frames': 1}, 'loader': {'batch': 8}},
}

# Crops of 16x16 pixels, from 8x8.
_TINY_SSR = _TINY | {
  'model': _TINY_MODEL | {'attention': ('none', 'none', 'cross'), 'noise_level_embedding': True},
  'data': {'size': 16, 'shorter_side': 32},
  'degrade': {'factor': 2},
  'sampling': {'steps': 4, 'window': 4, 'overlap': 1},
  'loader': {'batch': 8},
}
SCALES['tiny'] |= {
  'ssr_image': _TINY_SSR | {'data': {'size': 16, 'shorter_side': 32, 'frames': 1}},
  'ssr': _TINY_SSR,
}

# The models that ship: 80 frames of 32x32, trained on two CPU cores.
# The stem unshuffles 2x2 pixels, and the two coarsest levels have most units: a CPU convolves
# wide features of few pixels faster than narrow ones of many.  Clean frames are predicted: a small
# network can tell them more easily than noise, which has many more dimensions (Li & He, 2025, "Back
# to Basics").  Noise is shifted by -4: a clip shows its content 80 times, so what moves is decided
# at a lower log-SNR than in one frame, and most times of training have to lie there.  Frames attend
# to each other from 8x8 down: at 2x2 alone they know too little of where a shape is for it to keep
# its place.
_DEMO_MODEL = {
  'channels': (32, 64, 96, 128),
  'down_units': (0, 0, 1, 1),
  'up_units': (1, 1, 1, 1),
  'attention': ('none', 'none', 'joint', 'joint'),
  'temporal_strides': (1, 1, 2, 2),
  'patch': 2,
  'resample': 'conv',
  'head_features': 32,
  'groups': 16,
  'pool_heads': 4,
  'emb_features': 256,
  'activation': 'silu',
  'temporal_attentions': (0, 1, 1, 2),
  'temporal_scale_shift': True,
}
_DEMO_OPTIM = {
  'learning_rate': 2e-3,
  'warmup': 100,
  'decay': 'cosine',
  'weight_decay': 0.01,
  'b2': 0.99,  # at this rate 0.999 lags behind, and steps jump
  'clip': 0.25,
}
_DEMO = {
  'model': _DEMO_MODEL,
  'schedule': {'shift': -4.0, 'prediction': 'x0'},
  'text': {'tokens': 12},
  'sampling': {'steps': 40},
  'optim': _DEMO_OPTIM,
}
_DEMO_VIDEO = _DEMO | {
  'loader': {'batch': 4},
  'ema_decay': 0.998,
  'evaluate_every': 500,
  'evaluate_batch': 4,
  'sample_every': 2000,
  'save_every': 250,
}
SCALES['demo'] = {
  't2i': _DEMO
  | {
    'steps': 5000,
    'high_noise': 0.4,  # what shape it is is decided at little noise, which the shift makes rare
    'data': {'frames': 1},
    'loader': {'batch': 32},
    'ema_decay': 0.999,
  },
  't2v': _DEMO_VIDEO
  | {
    'steps': 1200,
    'optim': _DEMO_OPTIM | {'learning_rate': 5e-4},
  },
  't2v_masked': _DEMO_VIDEO
  | {
    'steps': 800,
    'optim': _DEMO_OPTIM | {'learning_rate': 5e-4},
  },
  'style': _DEMO
  | {
    'steps': 150,
    'high_noise': 0.4,
    'data': {'frames': 1},
    'loader': {'batch': 16},
    'ema_decay': 0.98,
  },
}

# Where a video model begins: every fourth frame of four times as many clips.  What a caption's
# motion does to the whole of a clip shows in few frames, and of clips it needs many.
_SPARSE = {
  'model': _DEMO_MODEL | {'frame_step': 4.0},
  'data': {'frames': 20, 'fps': 4.0},
  'loader': {'batch': 16},
  'optim': _DEMO_OPTIM | {'learning_rate': 1e-3, 'warmup': 200},
}
SCALES['demo_sparse'] = {
  't2v': _DEMO_VIDEO
  | _SPARSE
  | {
    'steps': 2600,
    'high_noise': 2.0,  # what moves where is decided there, by the caption
  },
  't2v_masked': _DEMO_VIDEO | _SPARSE | {'steps': 1600},
}

# From 32x32 to 128x128, on crops of 64x64: most blocks where there are fewest pixels, and no
# self-attention, so that whole frames are only larger crops.
_DEMO_SSR = {
  'model': {
    'channels': (64, 96, 128),
    'down_units': (0, 1, 2),
    'up_units': (1, 1, 2),
    'attention': ('none', 'none', 'cross'),
    'temporal_strides': (1, 2, 2),
    'temporal_attentions': (0, 0, 1),
    'patch': 4,
    'head_features': 32,
    'groups': 16,
    'pool_heads': 4,
    'emb_features': 256,
    'activation': 'silu',
  },
  'schedule': {'prediction': 'x0'},
  'residual': True,
  'degrade': {'level': 0.25},
  'text': {'tokens': 12},
  'data': {'size': 64, 'shorter_side': 128},
  'sampling': {'steps': 8, 'aug_level': 0.05, 'overlap': 3},
  'optim': {'learning_rate': 1e-3, 'warmup': 100, 'decay': 'cosine', 'weight_decay': 0.01},
  'evaluate_every': 500,
  'sample_every': 1000,
}
SCALES['demo'] |= {
  'ssr_image': _DEMO_SSR
  | {
    'steps': 1800,
    'data': {'size': 64, 'shorter_side': 128, 'frames': 1},
    'loader': {'batch': 16},
    'ema_decay': 0.999,
  },
  'ssr': _DEMO_SSR
  | {
    'steps': 1200,
    'loader': {'batch': 4},
    'ema_decay': 0.998,
  },
}

# T5 XXL (Imagen, Sec. 2.1); the source is the folder that python -m text.convert wrote.
# Networks that begin here attend to the tokens of a text alone.
_PAPER_TEXT = {
  'source': '',
  'tokens': 128,
  'width': 4096,
  'dtype': 'bfloat16',
  'mask_padding': True,
}

# Lumiere's sizes are known in sum alone: about 5.5B parameters at 80 frames of 128x128 pixels, of
# them the frozen image model's 4 to 4.5B.  Its U-Net has five levels, from 128 to 8 pixels, and
# attends at 32, 16 and 8, as Imagen's and DeepFloyd IF's do; there two units on the way down and
# three on the way up make 16 spatial attentions, as many as Generative Omnimatte counts in Lumiere.
# Time is halved with space three times, to 10 frames.  Most is computed where a clip is compact
# (Lumiere, Sec. 3.1): large frames have narrow features, in the fewest units, so that five times
# the frames need no more than 1.5 times the memory.  Widths are multiples of 128, and so are heads
# (Imagen's have 64 features): that fills a TPU's matrix units.  Widths end where the sum is right:
# small frames are where parameters cost least (Imagen, App. B).
_PAPER = {
  'model': {
    'channels': (128, 384, 1024, 2560, 3584),
    'down_units': (1, 1, 2, 2, 2),
    'up_units': (1, 2, 3, 3, 3),
    'attention': ('none', 'none', 'joint', 'joint', 'joint'),
    'temporal_strides': (1, 2, 2, 2, 1),
    'temporal_attentions': (0, 0, 0, 0, 2),
    'head_features': 128,
    'text_features': 2048,
    'pool_heads': 64,
    'emb_features': 1024,
    'activation': 'silu',
    'dtype': 'bfloat16',
  },
  'schedule': {'shift': -1.386},  # 2 log(64 / 128): simple diffusion, Eq. 4
  'text': _PAPER_TEXT,
  'sampling': {'steps': 50, 'guidance': 6.0, 'threshold': 'dynamic'},
  'ema_decay': 0.9999,
  'evaluate_batch': 64,  # all at once, on 64 devices or more
}
SCALES['paper'] = {
  't2i': _PAPER
  | {
    'steps': 2_500_000,  # Imagen, App. F, and so the rates and the batch
    'data': {'size': 128, 'frames': 1},
    'loader': {'batch': 2048},
    'optim': {'name': 'adafactor', 'learning_rate': 1e-4, 'warmup': 10_000, 'decay': 'cosine'},
  },
  't2v': _PAPER
  | {
    'steps': 200_000,
    'mesh': (('data', 1), ('fsdp', -1)),
    'data': {'size': 128},
    'loader': {'batch': 128},
    # Adafactor at 1e-5: Lumiere (SIGGRAPH Asia 2024).
    'optim': {'name': 'adafactor', 'learning_rate': 1e-5, 'warmup': 10_000},
  },
}

# Imagen's 256 to 1024 (App. F), whose every level begins with a stride: the first is the stem's.
# Its crops are of 32x32 to 256x256, as Imagen's are of 64x64; here from 128 to 1024.
_PAPER_SSR = {
  'model': {
    'channels': (128, 256, 512, 1024),
    'down_units': (2, 4, 8, 8),
    'up_units': (2, 4, 8, 8),
    'attention': ('none', 'none', 'none', 'cross'),
    'temporal_strides': (1, 2, 2, 1),
    'patch': 2,
    'skip_scale': 2**-0.5,
    'attend_after': 'level',
    'activation': 'silu',
    'temporal_attentions': (0, 0, 0, 1),
    'dtype': 'bfloat16',
  },
  'text': _PAPER_TEXT,
  'degrade': {'factor': 8, 'level': 1.0},
  'sampling': {'steps': 30, 'guidance': 4.0},
  'optim': {'name': 'adafactor', 'learning_rate': 1e-5, 'warmup': 10_000},
  'evaluate_batch': 64,
}
SCALES['paper'] |= {
  'ssr_image': _PAPER_SSR
  | {
    'steps': 1_000_000,
    'data': {'size': 256, 'shorter_side': 1024, 'frames': 1},
    'loader': {'batch': 1024},
    'optim': {'learning_rate': 1e-4, 'warmup': 10_000},
  },
  'ssr': _PAPER_SSR
  | {
    'steps': 200_000,
    'data': {'size': 256, 'shorter_side': 1024},
    # As many crops as of images: eight on a chip of 128 keep its matrix units busy, one does not.
    'loader': {'batch': 1024},
  },
}


SCALES |= deepfloyd.SCALES


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
