r"""Text to image: the image model, which is trained from nothing on single frames and captions.

  python train.py --config=configs/t2i.py:demo --workdir=runs/t2i

scale  parameters  trained  hardware        time      result
tiny         298k     298k  2 CPU cores     minutes   for tests
demo        2.90M    2.90M  1 CPU core      2 hours *  loss 0.049
paper       4.20B    4.20B  256 TPU v4 [1]  unknown   not run
if_m         372M     372M                            not run
if_l         935M     935M                            not run
if_xl       4.30B    4.30B                            not run

[1] The hardware on which Imagen trained a base model of 2B parameters with this batch (App. F).

* Of steps, on one core of an AMD EPYC whose other core was busy.  A loss is `evaluation_loss` in
  metrics.jsonl.
"""

from ml_collections import ConfigDict

from configs import base, deepfloyd, models
from configs.scales import at_scale, merge

# Further training of an image model that `convert.py` has imported.
_IF = {'steps': 100_000, 'data': {'frames': 1}, 'loader': {'batch': 256}}

SCALES = {
  'tiny': merge(
    models.TINY,
    {
      'data': {'size': 16, 'frames': 1},
      'loader': {'batch': 16},
    },
  ),
  'demo': merge(
    models.DEMO,
    {
      'steps': 16_000,
      'log_snr': {'mean': -1.5, 'std': 1.75},  # where the form of a shape is decided
      'less_noisy': 4.4,  # log(80), for the 80 frames of the video model
      'data': {'frames': 1},
      'loader': {'batch': 16},
      'ema_decay': 0.998,
      'evaluate_every': 1000,
      'sample_every': 4000,
    },
  ),
  'paper': merge(
    models.PAPER,
    {
      # The steps, the batch and the learning rate are those of Imagen, App. F.
      'steps': 2_500_000,
      'data': {'frames': 1},
      'loader': {'batch': 2048},
      'optim': {'learning_rate': 1e-4, 'decay': 'cosine'},
    },
  ),
  'if_m': merge(deepfloyd.IF_M, _IF),
  'if_l': merge(deepfloyd.IF_L, _IF),
  'if_xl': merge(deepfloyd.IF_XL, _IF),
}


def get_config(scale: str = 'tiny') -> ConfigDict:
  """The config at a scale: `--config=configs/t2i.py:demo`."""
  c = base.get_config()
  c.stage = 't2i'
  c.model.temporal = False
  return at_scale(c, scale, SCALES)
