"""Steadiness of moving shapes, on clips whose unsteadiness is known."""

import numpy as np
import pytest

from data import synthetic
from evaluation.shapes.steadiness import means, steadiness

MIDDLE = (0.5, 0.5)


def clip(motion, frames=80):
  """The first clip of this motion, and its frames."""
  facts = next(f for f in map(synthetic.facts, range(1000)) if f.motion == motion)
  times = np.arange(frames) / frames * synthetic.DURATION
  return synthetic.render(facts, times, 32)[0]


def moved(video, offsets):
  """The frames, each moved by whole pixels (x, y); beyond its edges the first pixel repeats."""
  frames = []
  for frame, (x, y) in zip(video, offsets, strict=True):
    wide = np.pad(frame, ((8, 8), (8, 8), (0, 0)), mode='edge')
    frames.append(wide[8 - y : 40 - y, 8 - x : 40 - x])
  return np.stack(frames)


@pytest.mark.parametrize('motion', synthetic.MOTIONS)
@pytest.mark.parametrize('frames', [20, 80])
def test_a_rendered_clip_is_steady(motion, frames):
  measured = steadiness(clip(motion, frames), motion)
  assert measured['flicker'] == 0
  still = motion == 'standing still'
  np.testing.assert_equal(measured['overlap'], 1.0 if still else np.nan)
  assert np.isnan(measured['jitter']) if still else measured['jitter'] < 0.12


@pytest.mark.parametrize('motion', ['moving left', 'growing', 'bouncing', 'spinning'])
def test_jitter_is_the_distance_from_the_path(motion):
  """One pixel to the left and to the right by turns: no path of a motion explains it."""
  offsets = [((-1) ** i, 0) for i in range(80)]
  measured = steadiness(moved(clip(motion), offsets), motion)
  assert 0.9 < measured['jitter'] < 1.1


def test_a_shape_that_moves_does_not_stand_still_nor_does_another_path_fit():
  assert steadiness(clip('moving left'), 'standing still')['overlap'] < 0.99
  assert steadiness(clip('moving left'), 'growing')['jitter'] > 2


def test_overlap_falls_with_the_part_of_the_shape_that_changes():
  """A square of 10x10 pixels loses one column in every other frame: the overlap is 90 / 100."""
  video = np.zeros((10, 32, 32, 3), np.uint8)
  video[:, 10:20, 10:20] = 255
  video[::2, 10:20, 19] = 0
  np.testing.assert_allclose(steadiness(video, 'standing still')['overlap'], 0.9)


def test_flicker_is_the_change_of_the_background():
  video = clip('standing still').copy()
  video[1::2, :3] += np.uint8(4)  # 3 of 32 rows
  measured = steadiness(video, 'standing still')
  assert 4 * 3 / 32 < measured['flicker'] < 4 * 3 / 20


def test_nothing_applies_to_a_single_frame():
  clip = synthetic.clip(0, size=32, frames=1, fps=16)['video']
  for motion in ('standing still', 'moving up'):
    assert not np.isfinite([*steadiness(clip, motion).values()]).any()


def test_without_a_shape_nothing_applies():
  measured = steadiness(np.zeros((8, 32, 32, 3), np.uint8), 'growing')
  assert all(np.isnan(value) for value in measured.values())
  assert np.isnan(means([measured])['jitter'])


def test_means_leave_out_what_does_not_apply():
  rows = [
    {'overlap': 0.5, 'jitter': np.nan, 'flicker': 1.0},
    {'overlap': np.nan, 'jitter': 2.0, 'flicker': 3.0},
  ]
  assert means(rows) == {'overlap': 0.5, 'jitter': 2.0, 'flicker': 2.0}
