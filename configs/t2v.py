"""The video model: the image model inflated, of which the temporal layers alone are trained.

Lumiere, Sec. 3.1.  `--config.init_from` is the workdir of the image model.
"""

from configs import base, scales


def get_config(scale: str = 'tiny'):
  """The config at a scale: `--config=configs/t2v.py:demo`."""
  c = base.get_config()
  c.stage = 't2v'
  c.model.temporal = True
  c.trainable = (r'(.*/)?temporal[^/]*/.*',)
  return scales.apply(c, scale)
