import numpy as np
import pytest

from benchmarks.distortions import (
  STRENGTHS,
  blur,
  colour_shift,
  compression,
  distorted,
  noise,
  shuffled,
)
from data import synthetic

CLIP = synthetic.clip(3, size=32, frames=20, fps=8, seed=1)['video']  # a shape that moves
RNG = np.random.default_rng(0)


def grey(level, frames=1, h=9, w=9):
  return np.full((frames, h, w, 3), level, np.uint8)


@pytest.mark.parametrize('kind', STRENGTHS)
def test_more_strength_is_a_larger_error_and_leaves_the_clip_as_it_was(kind):
  before = CLIP.copy()
  made = [distorted(CLIP, kind, strength, seed=5) for strength in range(1, 6)]
  errors = [np.square(one.astype(float) - CLIP).mean() for one in made]
  assert errors[0] > 0
  assert np.all(np.diff(errors) > 0)
  assert all(one.shape == CLIP.shape and one.dtype == np.uint8 for one in made)
  assert np.array_equal(CLIP, before)


@pytest.mark.parametrize('kind', ['noise', 'frame shuffling', 'freezing', 'flicker'])
def test_what_is_random_is_that_of_the_seed(kind):
  first, again, other = (distorted(CLIP, kind, 3, seed) for seed in (0, 0, 1))
  assert np.array_equal(first, again)
  assert not np.array_equal(first, other)


@pytest.mark.parametrize(('strength', 'count'), [(1, 4), (2, 8), (3, 12), (4, 16), (5, 20)])
def test_so_many_frames_are_shuffled(strength, count):
  numbered = grey(0, frames=20) + np.arange(20, dtype=np.uint8)[:, None, None, None]
  order = distorted(numbered, 'frame shuffling', strength, seed=strength)[:, 0, 0, 0]
  assert sorted(order) == list(range(20))
  assert (order != np.arange(20)).sum() == count


def test_at_least_two_frames_are_shuffled():
  assert shuffled(3, 0.01, RNG).tolist() in ([1, 0, 2], [2, 1, 0], [0, 2, 1])
  assert shuffled(1, 1.0, RNG).tolist() == [0]


@pytest.mark.parametrize(('strength', 'count'), [(1, 4), (2, 8), (3, 12), (4, 16), (5, 24)])
def test_a_part_of_the_clip_is_its_first_frame(strength, count):
  numbered = grey(0, frames=24) + np.arange(24, dtype=np.uint8)[:, None, None, None]
  order = distorted(numbered, 'freezing', strength, seed=strength)[:, 0, 0, 0].astype(int)
  (changed,) = np.nonzero(order != np.arange(24))
  assert len(changed) == count - 1
  assert set(order[changed]) == {changed[0] - 1}


def test_the_deviation_of_noise_and_of_light():
  made = noise(grey(128, frames=4, h=64, w=64), 8.0, RNG)
  assert made.std() == pytest.approx(np.hypot(8, np.sqrt(1 / 12)), rel=0.01)
  made = distorted(grey(200, frames=1000, h=1, w=1), 'flicker', 3)
  assert made.std() == pytest.approx(200 * 0.03, rel=0.08)


def test_every_second_frame_is_darker():
  made = distorted(grey(200, frames=4), 'alternation', 3)
  assert made[:, 0, 0, 0].tolist() == [200, 194, 200, 194]


def test_a_blur_has_its_deviation_and_keeps_what_is_flat():
  assert np.array_equal(blur(grey(77), 0.3), grey(77))
  edge = grey(0, h=65, w=65)
  edge[:, :, 32:] = 250
  rise = np.diff(blur(edge, 0.05)[0, 30, :, 1] / 250)  # a step becomes the kernel's integral
  at = np.arange(64)
  mean = (at * rise).sum()
  assert rise.sum() == pytest.approx(1)
  assert mean == pytest.approx(31)
  assert np.sqrt((rise * (at - mean) ** 2).sum()) == pytest.approx(0.05 * 65, rel=0.03)


def test_red_gains_what_blue_loses():
  assert colour_shift(grey(100), 0.2)[0, 0, 0].tolist() == [120, 100, 80]
  assert colour_shift(grey(250), 0.2)[0, 0, 0].tolist() == [255, 250, 200]


@pytest.mark.parametrize('side', [33, 34])
def test_compression_keeps_the_picture_and_its_size(side):
  clip = np.concatenate([CLIP[:5]] * 2, axis=2)[:, :31, :side]
  made = compression(clip, 10)
  assert made.shape == clip.shape
  grey_of = lambda video: video.mean(-1)  # 4:2:0 has fewer colours
  assert np.abs(grey_of(made.astype(float)) - grey_of(clip.astype(float))).mean() < 3


def test_compression_is_the_same_whatever_was_in_memory():
  clip = synthetic.clip(3, size=96, frames=80, fps=16)['video']
  made = set()
  for level in range(8):
    junk = [np.full(RNG.integers(10**3, 10**6), 31 * level + 1, np.uint8) for _ in range(20)]
    del junk
    made.add(compression(clip, 30).tobytes())
  assert len(made) == 1


@pytest.mark.parametrize('number', range(6))
def test_what_is_still_stays_so_when_it_is_compressed(number):
  """Only single blocks change, by a few levels."""
  still = np.repeat(synthetic.clip(number, size=96, frames=1, fps=16)['video'], 20, 0)
  made = compression(still, 23).astype(int)
  assert np.abs(np.diff(made, axis=0)).mean() < 0.002


def test_what_is_not_known_is_reported():
  with pytest.raises(ValueError, match="Got the distortion 'rain'; allowed are alternation, blur,"):
    distorted(CLIP, 'rain', 1)
  for strength in (0, 6):
    with pytest.raises(ValueError, match=f'Got a strength of {strength} of blur; allowed are 1 to'):
      distorted(CLIP, 'blur', strength)
