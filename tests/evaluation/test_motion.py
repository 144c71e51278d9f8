import itertools
import os
import pathlib

import numpy as np
import pytest

from benchmarks.distortions import compression
from benchmarks.motion import KINDS, PAIRS, area, areas, score_kinds, shapes, videos
from core.video import upscaled
from data.decode import decode
from evaluation.motion import MIN_FRAMES, motion_score, summary, trace

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (40, 16, 16, 3), np.uint8)


def halves(left, right=None):
  """A clip whose left half is at some levels and whose right half is at others, or as much darker:
  of one brightness."""
  left = np.asarray(left)
  right = 255 - left if right is None else np.asarray(right)
  frames = np.where(np.arange(16) < 8, left[:, None], right[:, None])
  return np.broadcast_to(frames[:, None, :, None], (len(left), 16, 16, 3)).astype(np.uint8)


RAMP = halves(np.arange(0, 200, 5))  # 40 frames


def measure(name, clip, fps=8.0):
  return motion_score(clip, fps)[name]


def test_a_still_clip_is_frozen_and_nothing_else():
  result = motion_score(np.repeat(PICTURES[:1], 9, 0), fps=4.0)
  assert result == dict.fromkeys(result, 0.0) | {
    'frozen': 1.0,
    'longest_freeze': 1.0,
    'longest_freeze_s': 2.0,
  }


def test_what_changes_evenly():
  result = motion_score(RAMP, fps=8.0)
  # An even change of light is concave as a share: the brighter half is the heavier, and counts.
  levels = RAMP[:, 0, [0, -1], 0].astype(float)
  shares = levels[1:-1] / np.sqrt(np.maximum(levels[:-2], 1) * levels[2:]) - 1
  flicker = np.median(np.take_along_axis(shares, levels[1:-1].argmax(1, keepdims=True), 1))
  assert 0 < flicker < 0.001
  assert result == pytest.approx(
    {
      'motion': 5,
      'frozen': 0,
      'longest_freeze': 0,
      'longest_freeze_s': 0,
      'disorder': 6 / (40 * 41),
      'jitter': 0,
      'flicker': flicker,
      'loop_gap': 39,
      'period_s': 0,
    },
    abs=1e-12,
  )


def test_black_and_white_in_turns():
  result = motion_score(halves(np.tile([0, 255], 10)), fps=8.0)
  assert result['motion'] == pytest.approx(255)
  assert result['disorder'] == pytest.approx(2 * 19 / 20)
  assert result['jitter'] == pytest.approx(4)
  assert result['period_s'] == 2 / 8


def test_the_disorder_of_all_orders_is_one_on_the_average():
  clip = halves([0, 3, 50, 120, 250])
  orders = itertools.permutations(range(5))
  assert np.mean([measure('disorder', clip[list(order)]) for order in orders]) == pytest.approx(1)


def test_noise_is_in_arbitrary_order():
  noise = RNG.integers(0, 256, (400, 4, 4, 3), np.uint8)
  assert measure('disorder', noise) == pytest.approx(1, abs=0.05)
  assert measure('jitter', noise) == pytest.approx(3, abs=0.1)


def test_the_disorder_has_no_part_in_the_light():
  clip = (RAMP // 2) * 2
  dimmed = clip // RNG.integers(1, 3, (len(clip), 1, 1, 1), np.uint8)
  assert measure('disorder', dimmed) == pytest.approx(measure('disorder', clip))


@pytest.mark.parametrize('share', [0.01, 0.02, 0.1, 0.5])
def test_every_second_frame_that_is_brighter_by_a_share_flickers_by_it(share):
  level = 100 * (1 + share * (np.arange(9) % 2))
  assert measure('flicker', halves(level, level)) == pytest.approx(share)


def test_random_light_flickers_by_its_deviation():
  sigma = 0.05
  level = 200 * (1 + sigma * np.random.default_rng(0).standard_normal(4_000))
  result = measure('flicker', halves(level, level)[:, :2, 7:9])
  # A normal variable less the mean of two more has 1.5 times the variance, and without its sign the
  # median 0.6745 deviations.
  assert result == pytest.approx(0.6745 * np.sqrt(1.5) * sigma, rel=0.05)


def test_neither_what_passes_nor_a_cut_nor_a_fade_is_flicker():
  passing = np.full((12, 16, 16, 3), 80, np.uint8)
  for i in range(12):
    passing[i, 4:10, i : i + 5] = 250
  cut = np.repeat(PICTURES[:2], 6, 0)
  fade = halves(*[np.rint(200 * 0.98 ** np.arange(20))] * 2)
  assert measure('flicker', passing) == measure('flicker', cut) == 0
  assert measure('flicker', fade) < 0.01


def test_frames_that_are_shown_twice_are_frozen_but_do_not_hang():
  # 80 frames at 16 a second of a video with 12.
  video = halves(np.arange(60) * 4)
  result = motion_score(video[np.arange(80) * 12 // 16], fps=16)
  assert result['frozen'] == pytest.approx(20 / 79)
  assert result['longest_freeze'] == pytest.approx(1 / 79)


def test_the_longest_freeze_is_that_of_one_frame():
  order = [0, 1, 1, 1, 1, 2, 3, 3, 3, 4, 5]
  result = motion_score(PICTURES[order], fps=2)
  assert result['frozen'] == pytest.approx(5 / 10)
  assert result['longest_freeze'] == pytest.approx(3 / 10)
  assert result['longest_freeze_s'] == 1.5


def test_twice_every_frame_jitters_by_two():
  assert measure('jitter', np.repeat(RAMP, 2, 0)) == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize('frames', [2, 3, 7])
def test_a_loop_has_its_period(frames):
  loop = np.concatenate([PICTURES[:frames]] * 3)
  assert measure('period_s', loop) == frames / 8
  assert measure('period_s', loop[: 2 * frames - 1]) == 0  # it is not there twice


def test_a_swing_comes_back():
  swing = halves(np.rint(100 + 90 * np.cos(2 * np.pi * np.arange(36) / 12)))
  assert measure('period_s', swing) == 12 / 8


def test_the_gap_of_a_loop():
  turn = 100 + 90 * np.cos(2 * np.pi * np.arange(13) / 12)
  there, back = RAMP, RAMP[::-1]
  assert measure('loop_gap', np.concatenate([there, back])) == 0
  assert measure('loop_gap', halves(turn)) == 0
  saw = np.tile([0, 10, 20, 30], 5)
  assert measure('loop_gap', halves(saw)) == pytest.approx(3)


def test_the_size_of_pixels_does_not_count():
  assert motion_score(upscaled(PICTURES, 3), 8) == pytest.approx(motion_score(PICTURES, 8))


@pytest.mark.parametrize('side', [1, 3, 17, 45])
def test_cells_are_means_of_all_pixels(side):
  clip = RNG.integers(0, 256, (3, side, 2 * side, 3), np.uint8)
  clip_trace = trace(iter(clip))
  assert clip_trace.cells.shape == (3, min(16, side) * min(16, 2 * side), 3)
  if side < 8:  # a cell to a pixel
    assert np.array_equal(clip_trace.cells, clip.reshape(3, -1, 3))
  assert clip_trace.cells.min() >= clip.min()
  assert clip_trace.cells.max() <= clip.max()
  assert np.isfinite(list(motion_score(clip, 8).values())).all()


def test_cells_of_uneven_sides():
  clip = np.zeros((3, 17, 16, 3), np.uint8)
  clip[:, :, :, 1] = np.arange(17)[:, None] * 10
  rows = trace(clip).cells[0, ::16, 1]
  assert rows.tolist() == [*range(0, 150, 10), 155]  # the last cell has two rows


def test_black_and_white_clips_have_numbers():
  for level in (0, 255):
    result = motion_score(np.full((4, 8, 8, 3), level, np.uint8), 8)
    assert result['frozen'] == 1
    assert result['flicker'] == result['disorder'] == 0


def test_two_frames_are_too_few():
  with pytest.raises(ValueError, match='Got a clip of 2 frames; motion needs 3 or more'):
    motion_score(PICTURES[: MIN_FRAMES - 1], 8)


def test_the_rate_of_frames_is_positive():
  with pytest.raises(ValueError, match='Got 0 frames a second; allowed is any positive number'):
    motion_score(PICTURES, 0)


def test_a_still_clip_stays_frozen_when_it_is_compressed():
  still = np.repeat(upscaled(PICTURES[:1], 4), 20, 0)
  for crf in (18, 28, 38):
    assert measure('longest_freeze', compression(still, crf)) == 1


def test_the_summary_is_over_clips():
  result = summary([{'motion': value} for value in range(11)])
  expected = {'mean': 5, 'p10': 1, 'p25': 2.5, 'median': 5, 'p75': 7.5, 'p90': 9}
  assert result == {'motion': pytest.approx(expected)}
  with pytest.raises(ValueError, match='Got no scores of clips; allowed is one or more'):
    summary([])


def test_the_area_is_how_often_one_is_more():
  assert area([3, 4], [1, 2]) == 1
  assert area([1, 2], [3, 4]) == 0
  assert area([1, 1], [1]) == 0.5
  assert area([2, 5, 9], [1, 5]) == pytest.approx((1 + 0 + 1 + 0.5 + 1 + 1) / 6)


def separation(clips):
  result = areas(score_kinds(clips, lambda clip: clip))
  assert len(result) == 3 * 2 + 1 * 2 + 2 + 3  # of every pair and every variant of its kinds
  assert set(PAIRS.values()) == {measure for _, _, measure in result}
  assert {kind for more, less, _ in result for kind in (more, less)} == set(KINDS)
  return min(result.values())


def test_damage_to_moving_shapes_is_detected():
  assert separation(list(shapes(16, size=32, frames=24))) >= 0.95


@pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
def test_damage_to_videos_is_detected():
  # A few of one source, which are easy to tell apart: benchmarks.motion has all of them.
  files = sorted(pathlib.Path(os.environ['LUMIERE_DATA'], 'videos').glob('panda70m__*.mp4'))[:8]
  assert separation([(decode(file, count=20, size=32), 16.0) for file in files]) >= 0.95


@pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
def test_what_is_no_clip_is_left_out_with_the_reason():
  folder = pathlib.Path(os.environ['LUMIERE_DATA'], 'videos')
  files = [folder / 'fetv_gt__001.gif', folder / 'decord__video_0.mov', folder / 'captions.jsonl']
  clips, skipped = videos(files, size=32, frames=20)
  ((clip, fps),) = clips.values()
  assert (clip.shape, fps) == ((20, 32, 43, 3), pytest.approx(10, abs=0.5))
  assert skipped['decord__video_0.mov'] == '2 frames at 16 a second; at least 16 are needed'
  assert 'captions.jsonl: cannot be opened' in skipped['captions.jsonl']
