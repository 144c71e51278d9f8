"""Distances of clips, on clips whose distances are known."""

import numpy as np

from benchmarks import variety
from configs import t2v
from data import synthetic


def test_distances_are_root_mean_squares_over_all_pixels():
  a = np.zeros((1, 2, 4, 4, 3), np.uint8)
  b = np.full((2, 2, 4, 4, 3), 30, np.uint8)
  b[1, :, :2] = 0  # half of the pixels
  np.testing.assert_allclose(variety.distances(a, b), [[30, 30 / np.sqrt(2)]], rtol=1e-5)
  np.testing.assert_allclose(variety.among(b), 30 / np.sqrt(2), rtol=1e-5)


def test_a_copied_clip_is_nearest_among_those_that_its_caption_describes():
  caption = lambda i: synthetic.facts(i, weights=synthetic.TRAINING_WEIGHTS).caption
  numbers = variety.indices('train', {caption(3), caption(7)}, 2000)
  assert numbers[caption(3)][0] == 3
  assert all(caption(i) == c for c, those in numbers.items() for i in those)
  those = numbers[caption(7)]
  clips = variety.clips(those, t2v.get_config('tiny').data, 'train')
  nearest = variety.distances(clips[:1], clips)[0]
  assert nearest[0] == 0
  assert (nearest[1:] > 5).all()
