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
  assert transforms.covering(*shape, 128) == expected
  assert transforms.resize(noise(1, 30, 10, 3), 5).shape == (1, 15, 5, 3)


@pytest.mark.parametrize('size', [(9, 16), (16, 9), (5, 5), 7])
def test_frames_are_resized_until_they_just_cover_a_size(size):
  height, width = size if isinstance(size, tuple) else (size, size)
  for h, w in ((90, 160), (160, 90), (37, 100), (20, 20), (18, 16), (9, 16)):
    got = transforms.covering(h, w, size)
    # One side is that of the size, and the other is at least as long, in proportion.
    assert got[0] == height or got[1] == width
    assert got[0] >= height
    assert got[1] >= width
    assert abs(got[0] * w - got[1] * h) <= 0.5 * max(h, w)


def test_the_uncropped_size_has_the_shape_of_the_crop():
  assert transforms.uncropped((9, 16)) == (9, 16)
  assert transforms.uncropped((9, 16), 18) == (18, 32)
  assert transforms.uncropped((16, 9), 10) == (18, 10)  # 17.8, since crops must fit into it
  assert transforms.uncropped(8, 12) == (12, 12)
  with pytest.raises(ValueError, match=r'crops of size=\(9, 16\); allowed is 9 or more, or 0'):
    transforms.crop('center', (9, 16), 8)


def test_crops_that_are_not_square():
  frames = np.arange(7 * 9, dtype=np.uint8).reshape(1, 7, 9, 1)
  np.testing.assert_array_equal(transforms.center_crop(frames, (3, 5)), frames[:, 2:5, 2:7])
  rng, places = np.random.default_rng(0), set()
  for _ in range(100):
    crop = transforms.random_crop(frames, (6, 7), rng)
    top, left = divmod(int(crop[0, 0, 0, 0]), 9)
    np.testing.assert_array_equal(crop, frames[:, top : top + 6, left : left + 7])
    places.add((top, left))
  assert places == {(top, left) for top in (0, 1) for left in (0, 1, 2)}


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
  with pytest.raises(ValueError, match='Got crops of 5x5 pixels from frames of 4x6; allowed are c'):
    transforms.center_crop(noise(1, 4, 6, 3), 5)
  with pytest.raises(ValueError, match='Got frames of the size 0; allowed is a whole number, the'):
    transforms.random_crop(noise(1, 4, 6, 3), 0, np.random.default_rng(0))
