"""The video model that is given part of a video: two frames, all but a region, or nothing.

Lumiere, Sec. 4.2.  `--config.init_from` is the workdir of the video model, all of which is trained:
its first convolution gets the channels of what is given, which are zero at first.
"""

from configs import base, scales


def get_config(scale: str = 'tiny'):
  """The config at a scale: `--config=configs/t2v_masked.py:demo`."""
  c = base.get_config()
  c.stage = 't2v_masked'
  c.model.temporal = True
  # The paper has no shares.
  c.masks.update({
    'first_frame': 4.0,
    'first_and_last_frame': 1.0,
    'box': 1.0,
    'tube': 2.0,
    'border': 1.0,
    'region': 2.0,
    'nothing': 1.0,
  })  # fmt: skip
  return scales.apply(c, scale)
