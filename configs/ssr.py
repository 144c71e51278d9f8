"""Super-resolution of videos: its image model inflated, trained on crops of short windows.

Lumiere, Sec. 3.2.  `--config.init_from` is the workdir of the image model.
"""

from configs import base, scales


def get_config(scale: str = 'tiny'):
  """The config at a scale: `--config=configs/ssr.py:demo`."""
  c = base.super_resolution(base.get_config())
  c.stage = 'ssr'
  c.model.temporal = True
  c.trainable = (r'(.*/)?temporal[^/]*/.*',)
  return scales.apply(c, scale)
