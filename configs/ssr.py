r"""Super-resolution of videos: the image model of `ssr_image.py`, inflated.

Only its temporal layers are trained, on crops of short windows (Lumiere, Sec. 3.2).
`--config.init_from` is the workdir of that image model.

  python train.py --config=configs/ssr.py:demo --workdir=runs/ssr --config.init_from=runs/ssr_image

scale  parameters  trained  hardware     time            result
tiny         313k    61.2k  2 CPU cores  minutes         for tests
demo        4.89M     810k  1 CPU core   7 minutes *     loss 0.006; 5.3 dB above bicubic
paper        811M     139M  128 TPU v5p  18 h, forecast  not run
if_m         579M    96.7M                               not run
if_l        1.51B     268M                               not run
if_xl       1.51B     268M                               not run

* Of steps, on one core of an AMD EPYC whose other core was busy.  A loss is `evaluation_loss` in
  metrics.jsonl.
"""

from ml_collections import ConfigDict

from configs import base, deepfloyd, models
from configs.scales import at_scale, merge

_IF = merge(deepfloyd.TRAINED_HERE, {'steps': 200_000, 'loader': {'batch': 64}})

SCALES = {
  'tiny': models.TINY_SSR,
  'demo': merge(
    models.DEMO_SSR,
    {
      'steps': 1200,
      'loader': {'batch': 4},
      'ema_decay': 0.998,
    },
  ),
  # 1024 crops are eight for each of 128 chips, which keeps their matrix units busy; one would not.
  'paper': merge(models.PAPER_SSR, {'steps': 200_000}),
  'if_m': merge(deepfloyd.IF_M_SSR, _IF),
  'if_l': merge(deepfloyd.IF_L_SSR, _IF),
  'if_xl': merge(deepfloyd.IF_L_SSR, _IF),
}


def get_config(scale: str = 'tiny') -> ConfigDict:
  """The config at a scale: `--config=configs/ssr.py:demo`."""
  c = base.super_resolution(base.get_config())
  c.stage = 'ssr'
  c.model.temporal = True
  c.trainable = base.TEMPORAL
  return at_scale(c, scale, SCALES)
