import jax
import numpy as np
import pytest

from data import transforms


def noise(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize('target', [(5, 7), (20, 31), (33, 12), (3, 90), (64, 96)])
def test_resampling_is_that_of_jax_to_one_grey_level(target):
  frames = noise(2, 33, 31, 3)
  theirs = jax.image.resize(
    frames.astype(np.float32), (2, *target, 3), 'linear', antialias=True, precision='highest'
  )
  ours = transforms.resample(frames, *target)
  assert ours.dtype == np.uint8
  np.testing.assert_allclose(ours, np.asarray(theirs), atol=0.51)


@pytest.mark.parametrize('target', [(5, 7), (40, 50)])
def test_a_constant_stays_itself(target):
  frames = np.full((1, 16, 24, 3), 137, np.uint8)
  np.testing.assert_array_equal(transforms.resample(frames, *target), 137)


def test_a_ramp_stays_straight_away_from_the_edges():
  ramp = np.broadcast_to(np.arange(0, 240, 2, np.uint8)[:, None, None], (1, 120, 8, 3))
  rows = transforms.resample(ramp, 24, 8)[0, 1:-1, 0, 0]
  # A pixel of the coarse grid is centred on five of the fine one, whose values are 2 apart.
  np.testing.assert_array_equal(rows, 10 * np.arange(1, 23) + 4)


def test_a_pattern_finer_than_the_target_becomes_its_mean():
  stripes = np.zeros((1, 64, 64, 3), np.uint8)
  stripes[:, :, ::2] = 200
  inside = transforms.resize(stripes, 16)[:, :, 1:-1]
  np.testing.assert_array_equal(inside, 100)


def test_frames_of_the_wanted_size_are_not_touched():
  frames = noise(1, 9, 9, 3)
  assert transforms.resize(frames, 9) is frames


@pytest.mark.parametrize(
  ('shape', 'expected'),
  [((720, 1280), (128, 228)), ((1280, 720), (228, 128)), ((9, 9), (128, 128))],
)
def test_the_shorter_side_has_the_size_and_the_other_keeps_the_proportion(shape, expected):
  assert transforms.shorter_side(*shape, 128) == expected
  assert transforms.resize(noise(1, 30, 10, 3), 5).shape == (1, 15, 5, 3)


def test_the_center_crop_is_in_the_center():
  frames = np.pad(noise(2, 4, 4, 3), [(0, 0), (1, 1), (3, 3), (0, 0)])
  np.testing.assert_array_equal(transforms.center_crop(frames, 4), frames[:, 1:5, 3:7])


def test_random_crops_reach_every_place_and_keep_frames_together():
  frames = np.broadcast_to(
    np.arange(12, dtype=np.uint8).reshape(3, 4)[None, :, :, None], (5, 3, 4, 1)
  )
  rng = np.random.default_rng(0)
  crops = [transforms.random_crop(frames, 2, rng) for _ in range(100)]
  assert {int(crop[0, 0, 0, 0]) for crop in crops} == {0, 1, 2, 4, 5, 6}
  for crop in crops:
    np.testing.assert_array_equal(crop, np.broadcast_to(crop[:1], (5, 2, 2, 1)))
    np.testing.assert_array_equal(crop[0, :, :, 0] - crop[0, 0, 0, 0], [[0, 1], [4, 5]])


def test_mistakes_are_reported():
  with pytest.raises(ValueError, match=r'size=5 for frames of 4 x 6; 1\.\.4 are allowed'):
    transforms.center_crop(noise(1, 4, 6, 3), 5)
  with pytest.raises(ValueError, match=r'size=0 for frames of 4 x 6; 1\.\.4 are allowed'):
    transforms.random_crop(noise(1, 4, 6, 3), 0, np.random.default_rng(0))
