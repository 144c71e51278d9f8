"""The image model, trained from nothing on frames and captions."""

from configs import base, scales


def get_config(scale: str = 'tiny'):
  """The config at a scale: `--config=configs/t2i.py:demo`."""
  c = base.get_config()
  c.stage = 't2i'
  c.model.temporal = False
  return scales.apply(c, scale)
