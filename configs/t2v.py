r"""Text to video: the image model of `t2i.py`, inflated.  Only its temporal layers are trained.

Lumiere, Sec. 3.1.  `--config.init_from` is the workdir of the image model.  The demo is trained on
every fourth frame of many clips first (`demo_sparse`), and continues from there on all frames.

  python train.py --config=configs/t2v.py:demo_sparse --workdir=runs/t2v_sparse \
    --config.init_from=runs/t2i
  python train.py --config=configs/t2v.py:demo --workdir=runs/t2v --config.init_from=runs/t2v_sparse

scale        parameters  trained  hardware     time            result
tiny               360k    61.2k  2 CPU cores  minutes         for tests
demo_sparse       5.57M    2.67M  1 CPU core   2.5 hours *     loss 0.014; demo goes on from it
demo              5.57M     592k  1 CPU core   29 minutes *    loss 0.012; docs/results.md
paper             5.45B    1.25B  128 TPU v5p  28 h, forecast  not run
if_m               445M    73.1M                               not run
if_l              1.14B     203M                               not run
if_xl             5.29B     981M                               not run

* Of steps, on one core of an AMD EPYC whose other core was busy.  A loss is `evaluation_loss` in
  metrics.jsonl.
"""

from ml_collections import ConfigDict

from configs import base, deepfloyd, models
from configs.scales import at_scale, merge

_IF = merge(deepfloyd.VIDEO, {'steps': 200_000})

SCALES = {
  'tiny': merge(
    models.TINY,
    {
      'data': {'size': 16, 'frames': 16},
      'loader': {'batch': 4},
    },
  ),
  'demo_sparse': merge(
    models.DEMO_SPARSE,
    {
      'steps': 3300,
    },
  ),
  'demo': merge(models.DEMO_ALL_FRAMES, {'steps': 450, 'loader': {'batch': 4}}),
  'paper': merge(
    models.PAPER,
    {
      'steps': 200_000,
      'loader': {'batch': 128},
    },
  ),
  'if_m': merge(deepfloyd.IF_M, _IF),
  'if_l': merge(deepfloyd.IF_L, _IF),
  'if_xl': merge(deepfloyd.IF_XL, _IF),
}


def get_config(scale: str = 'tiny') -> ConfigDict:
  """The config at a scale: `--config=configs/t2v.py:demo`."""
  c = base.get_config()
  c.stage = 't2v'
  c.model.temporal = True
  c.trainable = base.TEMPORAL
  return at_scale(c, scale, SCALES)
