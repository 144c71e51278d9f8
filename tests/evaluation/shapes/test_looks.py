import numpy as np
import pytest

from data import synthetic
from evaluation.shapes.looks import PLAIN, colours, nearest

RNG = np.random.default_rng(0)
INKS = {'sepia': ((150, 104, 60), (236, 220, 188)), 'blueprint': ((245, 250, 255), (24, 64, 140))}


def inked(mask, look, noise=0):
  """A shape in the ink of a look, on its paper."""
  ink, paper = (np.array(colour) for colour in INKS[look])
  pixels = np.where(mask[..., None], ink, paper) + RNG.normal(0, noise, (*mask.shape, 3))
  return np.clip(pixels, 0, 255).astype(np.uint8)


REFERENCES = {look: inked(RNG.random((96, 96)) < 0.2, look) for look in INKS}


@pytest.mark.parametrize('look', INKS)
def test_a_clip_in_the_colours_of_a_look_is_of_it(look):
  for i in range(20):
    mask = synthetic.clip(i, size=32, frames=8, fps=2, seed=1)['mask']
    assert nearest(inked(mask, look, noise=12), REFERENCES) == look


def test_moving_shapes_as_they_are_drawn_are_plain():
  clips = (synthetic.clip(i, size=32, frames=8, fps=2, seed=1)['video'] for i in range(100))
  assert np.mean([nearest(clip, REFERENCES) == PLAIN for clip in clips]) >= 0.99


def test_colours_are_shares():
  pixels = RNG.integers(0, 256, (50, 3), np.uint8)
  assert np.square(colours(pixels)).sum() == pytest.approx(1)
  assert np.square(colours(np.zeros((7, 3), np.uint8)))[0] == pytest.approx(1)
