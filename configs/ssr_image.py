r"""The image model of super-resolution, trained from nothing on crops of high-resolution frames.

  python train.py --config=configs/ssr_image.py:demo --workdir=runs/ssr_image

scale  parameters  trained  hardware        time         result
tiny         252k     252k  2 CPU cores     minutes      for tests
demo        4.08M    4.08M  1 CPU core      17 min *     ssr:demo goes on from it
paper        672M     672M  128 TPU v4 [1]  unknown      not run
if_m         482M     482M                               not run
if_l        1.24B    1.24B                               not run
if_xl       1.24B    1.24B                               not run

* Of steps, on one core of an AMD EPYC whose other core was busy.
"""

from ml_collections import ConfigDict

from configs import base, deepfloyd, models
from configs.scales import at_scale, merge

# Further training of an image model that `convert.py` has imported.
_IF = {'steps': 100_000, 'data': {'frames': 1}, 'loader': {'batch': 256}}

SCALES = {
  'tiny': merge(models.TINY_SSR, {'data': {'frames': 1}}),
  'demo': merge(
    models.DEMO_SSR,
    {
      'steps': 1800,
      'data': {'frames': 1},
      'loader': {'batch': 16},
      'ema_decay': 0.999,
    },
  ),
  'paper': merge(
    models.PAPER_SSR,
    {
      'steps': 1_000_000,
      'data': {'frames': 1},
      # Imagen's rate (App. F).  Imagen trains super-resolution by Adam, which needs more memory.
      'optim': {'learning_rate': 1e-4},
    },
  ),
  'if_m': merge(deepfloyd.IF_M_SSR, _IF),
  'if_l': merge(deepfloyd.IF_L_SSR, _IF),
  'if_xl': merge(deepfloyd.IF_L_SSR, _IF),
}


def get_config(scale: str = 'tiny') -> ConfigDict:
  """The config at a scale: `--config=configs/ssr_image.py:demo`."""
  c = base.super_resolution(base.get_config())
  c.stage = 'ssr_image'
  c.model.temporal = False
  return at_scale(c, scale, SCALES)
