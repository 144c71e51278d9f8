"""The image model of super-resolution, trained from nothing on crops of large frames."""

from configs import base, scales


def get_config(scale: str = 'tiny'):
  """The config at a scale: `--config=configs/ssr_image.py:demo`."""
  c = base.super_resolution(base.get_config())
  c.stage = 'ssr_image'
  c.model.temporal = False
  return scales.apply(c, scale)
