"""Image files for tests."""

import numpy as np
from PIL import Image


def written(path, pixels, mode='RGB', **options):
  """Writes the pixels to the path, and returns it."""
  Image.fromarray(pixels, mode).save(path, **options)
  return path


def noise(*shape):
  """Pixels of noise."""
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def refuse(note):
  """A `warn` callback for calls that should not warn."""
  raise AssertionError(note)
