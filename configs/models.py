"""The model of every scale: its network, noise schedule, text encoder, optimizer and sampler.

Stages that start from one another have the same model: `t2i`, `t2v`, `t2v_masked` and `style` have
one, `ssr_image` and `ssr` another.  What differs between them is in the file of each stage.  The
models of DeepFloyd IF are in `deepfloyd.py`.
"""

from configs.scales import merge

# ---- tiny: for the tests.  A few seconds to a few minutes of training on a CPU.

TINY = {
  'model': {
    'channels': (16, 32, 32),
    'down_units': (1, 1, 1),
    'up_units': (1, 1, 1),
    'attention': ('none', 'none', 'joint'),
    'temporal_strides': (1, 2, 2),
    'temporal_attentions': (0, 0, 1),
    'head_features': 8,
    'groups': 4,
    'pool_heads': 2,
  },
  'steps': 300,
  'optim': {'learning_rate': 2e-3, 'warmup': 20},
  'ema_decay': 0.99,
  'sampling': {'steps': 8},
}
# Clips of 16x16 pixels, from 8x8.
TINY_SSR = merge(
  TINY,
  {
    'model': {'attention': ('none', 'none', 'cross')},
    'data': {'size': 16, 'shorter_side': 32},
    'degrade': {'factor': 2},
    'loader': {'batch': 8},
    'sampling': {'steps': 4, 'window': 4, 'overlap': 1},
  },
)

# ---- demo: the models that ship.  80 frames of 32x32 pixels, trained on two CPU cores.

DEMO = {
  # The stem turns 2x2 pixels into channels, and the two coarser levels have most of the units: a
  # CPU convolves few pixels with many features faster than many pixels with few features.  A shape
  # is a few cells of 8x8, where text and frame attend to one another.
  # Frames attend to one another from 8x8 pixels down.
  'model': {
    'channels': (48, 64, 96),
    'down_units': (1, 2, 2),
    'up_units': (2, 2, 2),
    'attention': ('none', 'joint', 'joint'),
    'temporal_strides': (1, 4, 2),
    'temporal_attentions': (0, 1, 1),
    'temporal_scale_shift': True,
    'patch': 2,
    'resample': 'conv',
    'head_features': 32,
    'groups': 16,
    'pool_heads': 4,
    'emb_features': 256,
    'activation': 'silu',
  },
  # The network predicts the clean frame.  That is easier for a small network than predicting noise,
  # which has many more dimensions (Li & He, 2025, "Back to Basics").  The loss is the error of v,
  # which weighs little noise more, where edges are decided.
  'schedule': {'shift': -4.0, 'prediction': 'x0'},
  'loss': {'error': 'v', 'largest': 5.0},
  'text': {'tokens': 12},
  'optim': {
    'name': 'muon',
    'learning_rate': 4e-3,
    'warmup': 100,
    'decay': 'wsd',
    'weight_decay': 0.01,
    'b2': 0.99,  # with 0.999, the second moment lags behind at this rate, and the loss jumps
    'clip': 0.5,
  },
  'sampling': {'steps': 16, 'guidance': 2.0},
}
DEMO_VIDEO = merge(
  DEMO,
  {
    # A clip shows its content in 80 frames, so that content and motion are decided at a lower
    # log-SNR than those of a single frame are.
    'log_snr': {'mean': -4.0, 'std': 2.25},
    'loader': {'batch': 2},
    'optim': {'learning_rate': 1e-3},
    'ema_decay': 0.995,
    'evaluate_every': 500,
    'evaluate_batch': 4,
    'sample_every': 2000,
    'save_every': 250,
  },
)
# The first part of the training of a video model: every fourth frame of four times as many clips.
# A few frames show the motion of a whole clip, and learning what captions say of motion takes many
# clips.  From 8x8 pixels down, the network gets the same frames of a clip as in the second part.
DEMO_SPARSE = merge(
  DEMO_VIDEO,
  {
    'model': {'frame_step': 4},
    'data': {'frames': 20, 'fps': 4.0},
    'loader': {'batch': 8},
    'optim': {'learning_rate': 4e-3},
  },
)
# The second part: of the temporal layers only those at 16x16 pixels, and the resampling below them,
# meet a new rate of frames.  Trained on two clips a step, the others would forget what they have
# learned of motion from eight.
DEMO_ALL_FRAMES = merge(
  DEMO_VIDEO,
  {
    'trainable': (r'temporal_(down|up)1/.*', r'(down|up)0_unit[0-9]+/temporal.*'),
  },
)
# From 32x32 to 128x128 pixels, trained on crops of 64x64.  Most units are where there are fewest
# pixels.  There is no self-attention, so that a whole frame is only a larger crop.
DEMO_SSR = {
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
  'optim': {'name': 'muon', 'learning_rate': 2e-3, 'decay': 'wsd', 'weight_decay': 0.01},
  'sampling': {'steps': 4, 'aug_level': 0.05, 'overlap': 3},
  'evaluate_every': 500,
  'sample_every': 1000,
}

# ---- paper: the size of Lumiere.  80 frames of 128x128 pixels, and from those to 1024x1024.

# What every stage on many chips has, those of DeepFloyd IF too.  A step takes about half a second,
# so that evaluation, samples and checkpoints together take less than a twentieth of the time.
MANY_CHIPS = {
  'mesh': (('data', 1), ('fsdp', -1)),
  'loader': {'workers': -1},
  'log_every': 50,
  'evaluate_every': 5000,
  'evaluate_batch': 64,  # at once, one on each of 64 chips
  'evaluate_clips': 512,
  'sample_every': 10_000,
  'sample_prompts': (
    'a golden retriever running along a beach at sunset',
    'a close-up of coffee poured into a glass of ice',
    'a red sailing boat crossing a bay, seen from above',
    'fireworks over a city at night',
  ),
  'save_every': 1000,
}
# T5 XXL (Imagen, Sec. 2.1).  `source` is to be the folder that `python -m text.convert` wrote.
# These networks attend to the tokens of a text alone, and not to its padding.
PAPER_TEXT = {
  'source': '',
  'tokens': 128,
  'width': 4096,
  'dtype': 'bfloat16',
  'mask_padding': True,
}
# Lumiere (SIGGRAPH Asia 2024) trains by Adafactor at 1e-5.
PAPER_OPTIM = {'name': 'adafactor', 'learning_rate': 1e-5, 'warmup': 10_000}
_PAPER = {
  # Of Lumiere's sizes only sums are known: about 5.5B parameters, of which the frozen image model
  # has 4 to 4.5B.  Its U-Net has five levels, from 128 to 8 pixels, and attends at 32, 16 and 8, as
  # Imagen and DeepFloyd IF do.  With two units on the way down and three on the way up at these
  # levels, there are 16 spatial attentions, as many as Generative Omnimatte counts in Lumiere.
  # Time is halved three times, from 80 to 10 frames.  Most is computed where a clip is compact
  # (Lumiere, Sec. 3.1): large frames have narrow features and the fewest units, so that five times
  # the frames need no more than 1.5 times the memory.  Widths are multiples of 128, and a head has
  # 128 features (Imagen's have 64), because that fills the matrix units of a TPU.  The coarsest
  # levels are as wide as the sum of parameters allows: parameters cost least where frames are small
  # (Imagen, App. B).
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
  'text': PAPER_TEXT,
  'data': {'size': 128},
  'optim': PAPER_OPTIM,
  'sampling': {'steps': 50, 'guidance': 6.0, 'threshold': 'dynamic'},
}
PAPER = merge(MANY_CHIPS, _PAPER)
# Imagen's network from 256 to 1024 pixels (App. F).  Every level of it begins with a stride; here
# the stem has the first stride (`patch`).  Imagen trains on crops of 256x256 from 64x64 pixels.
# Here they are made from 32x32, since frames grow eightfold, from 128 to 1024 pixels.
_PAPER_SSR = {
  'model': {
    'channels': (128, 256, 512, 1024),
    'down_units': (2, 4, 8, 8),
    'up_units': (2, 4, 8, 8),
    'attention': ('none', 'none', 'none', 'cross'),
    'attend_after': 'level',
    'temporal_strides': (1, 2, 2, 1),
    'temporal_attentions': (0, 0, 0, 1),
    'patch': 2,
    'skip_scale': 2**-0.5,
    'activation': 'silu',
    'dtype': 'bfloat16',
  },
  'text': PAPER_TEXT,
  'data': {'size': 256, 'shorter_side': 1024},
  'degrade': {'factor': 8, 'level': 1.0},
  'loader': {'batch': 1024},
  'optim': PAPER_OPTIM,
  'sampling': {'steps': 30, 'guidance': 4.0},
}
PAPER_SSR = merge(MANY_CHIPS, _PAPER_SSR)
