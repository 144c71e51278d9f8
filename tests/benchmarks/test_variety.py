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
  captions = {synthetic.facts(i).caption for i in (3, 7)}
  numbers = variety.indices('train', captions, 2000)
  assert numbers[synthetic.facts(3).caption][0] == 3
  assert all(synthetic.facts(i).caption == c for c, those in numbers.items() for i in those)
  those = numbers[synthetic.facts(7).caption]
  clips = variety.clips(those, t2v.get_config('tiny').data, 'train')
  nearest = variety.distances(clips[:1], clips)[0]
  assert nearest[0] == 0
  assert (nearest[1:] > 5).all()
