r"""The video model that completes a video of which a part is given: frames, or all but a region.

Lumiere, Sec. 4.2.  `--config.init_from` is the workdir of the video model.  All its parameters are
trained.  The first convolution gets input channels for the given pixels and their mask, with
weights that are zero at first.

  python train.py --config=configs/t2v_masked.py:demo_sparse --workdir=runs/t2v_masked_sparse \
    --config.init_from=runs/t2v_sparse
  python train.py --config=configs/t2v_masked.py:demo --workdir=runs/t2v_masked \
    --config.init_from=runs/t2v_masked_sparse

scale        parameters  trained  hardware     time          result
tiny               360k     360k  2 CPU cores  minutes       for tests
demo_sparse       5.58M    5.58M  1 CPU core   25 minutes *  loss 0.014; demo goes on from it
demo_between      5.58M    5.58M                             frames between keyframes; not run
demo              5.58M     592k  1 CPU core   7 minutes *   loss 0.012
paper              5.45B    5.45B                             not run
if_m               445M     445M                             not run
if_l              1.14B    1.14B                             not run
if_xl             5.29B    5.29B                             not run

* Of steps, on one core of an AMD EPYC whose other core was busy.  A loss is `evaluation_loss` in
  metrics.jsonl.
"""

from ml_collections import ConfigDict

from configs import base, deepfloyd, models
from configs.scales import at_scale, merge

_IF = merge(deepfloyd.VIDEO, {'steps': 50_000, 'optim': {'warmup': 1000}})

SCALES = {
  'tiny': merge(
    models.TINY,
    {
      'data': {'size': 16, 'frames': 16},
      'loader': {'batch': 4},
    },
  ),
  'demo_sparse': merge(models.DEMO_SPARSE, {'steps': 350, 'optim': {'learning_rate': 1.5e-3}}),
  # Temporal super-resolution, for `benchmarks/at_once.py`: all of a window of 16 frames from every
  # fourth, with as many frames in all as the video model gets after `demo_sparse`.
  'demo_between': merge(
    models.DEMO_VIDEO,
    {
      'steps': 800,
      'data': {'frames': 16},
      'loader': {'batch': 10},
      'masks': {
        'keyframes': 1.0,
        'first_frame': 0.0,
        'first_and_last_frame': 0.0,
        'box': 0.0,
        'tube': 0.0,
        'border': 0.0,
        'region': 0.0,
        'nothing': 0.0,
      },
      'optim': {'learning_rate': 4e-3},
    },
  ),
  'demo': merge(
    models.DEMO_ALL_FRAMES,
    {
      'steps': 200,
      'optim': {'learning_rate': 7e-4, 'warmup': 30},
      'ema_decay': 0.98,
    },
  ),
  'paper': merge(
    models.PAPER,
    {
      'steps': 50_000,
      'optim': {'warmup': 1000},
      'loader': {'batch': 128},
    },
  ),
  'if_m': merge(deepfloyd.IF_M, _IF),
  'if_l': merge(deepfloyd.IF_L, _IF),
  'if_xl': merge(deepfloyd.IF_XL, _IF),
}


def get_config(scale: str = 'tiny') -> ConfigDict:
  """The config at a scale: `--config=configs/t2v_masked.py:demo`."""
  c = base.get_config()
  c.stage = 't2v_masked'
  c.model.temporal = True
  # How often each kind of mask is drawn, relative to the others.  The paper does not say.
  c.masks.update(
    {
      'first_frame': 4.0,
      'first_and_last_frame': 1.0,
      'box': 1.0,
      'tube': 2.0,
      'border': 1.0,
      'keyframes': 0.0,  # temporal super-resolution
      'region': 2.0,
      'nothing': 1.0,
    }
  )
  return at_scale(c, scale, SCALES)
