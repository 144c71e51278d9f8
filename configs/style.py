r"""A style from one image: low-rank adapters of the image model's weights, as in StyleDrop.

Lumiere, Sec. 4.1; Sohn et al., 2023.  `--config.init_from` is the workdir of the image model, which
stays as it is.

  python train.py --config=configs/style.py:demo --workdir=runs/neon \
    --config.init_from=checkpoints/demo/t2i --config.style.image=FILE \
    --config.style.descriptor='in neon style'

`--config.style.rank=0 --config.trainable="('.*',)"` trains all weights instead of adapters.

scale  parameters  trained  hardware     time         result
tiny         390k    91.5k  2 CPU cores  minutes      for tests
demo        3.25M     345k  1 CPU core   1 minute *  three styles ship
paper       4.22B    16.1M                            not run
if_m         377M    5.69M                            not run
if_l         945M    9.31M                            not run
if_xl       4.32B    20.2M                            not run

* Of steps, on one core of an AMD EPYC whose other core was busy.
"""

from ml_collections import ConfigDict

from configs import base, deepfloyd, models
from configs.scales import at_scale, merge

# One image is soon learned: StyleDrop takes 1,000 steps of a batch of 8.  Adapters are small, so
# that Adam's second moment costs little.
_LARGE = {
  'steps': 500,
  'optim': {'name': 'adamw', 'learning_rate': 1e-4, 'warmup': 50, 'decay': 'cosine'},
  'data': {'frames': 1},
  'loader': {'batch': 8, 'workers': 0},
  'ema_decay': 0.98,
  'log_every': 10,
  'evaluate_every': 100,
  'evaluate_batch': 8,
  'sample_every': 250,
  'save_every': 250,
}
_IF = merge(deepfloyd.TRAINED_HERE, _LARGE)

SCALES = {
  'tiny': merge(
    models.TINY,
    {
      'data': {'size': 16, 'frames': 1},
      'loader': {'batch': 8},
    },
  ),
  'demo': merge(
    models.DEMO,
    {
      'steps': 150,
      'log_snr': {'mean': -1.5, 'std': 1.75},
      'optim': {'name': 'adamw', 'learning_rate': 2e-3, 'decay': 'cosine'},
      'data': {'frames': 1},
      'loader': {'batch': 16},
      'ema_decay': 0.98,
    },
  ),
  'paper': merge(models.PAPER, _LARGE),
  'if_m': merge(deepfloyd.IF_M, _IF),
  'if_l': merge(deepfloyd.IF_L, _IF),
  'if_xl': merge(deepfloyd.IF_XL, _IF),
}


def get_config(scale: str = 'tiny') -> ConfigDict:
  """The config at a scale: `--config=configs/style.py:demo`."""
  c = base.get_config()
  c.stage = 'style'
  c.model.temporal = False
  c.trainable = base.ADAPTERS
  c.style.update({'image': '', 'content': '', 'descriptor': '', 'rank': 8})
  c.drop_text = 0.0
  return at_scale(c, scale, SCALES)
