"""Cuts are detected where they are, and nowhere else."""

import numpy as np
import pytest

from data import scenes, trace
from tests.data.videos import encoded

TIMES = np.arange(60) * 40


def panning(seed, count, step=1):
  """A window of noise that is smooth in space and moves by `step` pixels a frame."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (6, 24, 3)).astype(np.uint8)
  wide = coarse.repeat(8, 0).repeat(8, 1)
  return np.stack([wide[:, k * step : k * step + 64] for k in range(count)])


def cuts(tmp_path, pictures, times=TIMES):
  path = tmp_path / 'video.mkv'
  path.write_bytes(encoded(pictures, times[: len(pictures)]))
  facts, traced = trace.follow(path, 16.0)
  assert facts.frames == len(traced.times) == len(pictures)
  return scenes.cuts(traced)


@pytest.mark.parametrize('at', [1, 5, 30, 58, 59])
@pytest.mark.parametrize('step', [0, 1, 2])
def test_a_cut_is_where_the_second_video_begins(tmp_path, at, step):
  pictures = np.concatenate([panning(0, at, step), panning(1, 60 - at, step)])
  assert cuts(tmp_path, pictures) == [pytest.approx(at * 0.04, abs=0.001)]


def test_neither_motion_nor_a_flash_nor_a_fade_nor_noise_is_a_cut(tmp_path):
  calm = panning(0, 60)
  assert cuts(tmp_path, calm) == []
  flash = calm.copy()
  flash[30] = 255
  assert cuts(tmp_path, flash) == []
  gains = np.linspace(1, 0, 60)[:, None, None, None]
  assert cuts(tmp_path, (calm * gains).astype(np.uint8)) == []
  noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3)).astype(np.uint8)
  assert cuts(tmp_path, noise) == []


def test_cuts_have_the_times_of_a_variable_rate(tmp_path):
  pictures = np.concatenate([panning(0, 4), panning(1, 4), panning(2, 4)])
  times = np.array([0, 10, 250, 300, 1000, 1040, 1050, 1900, 2000, 2010, 2500, 2600])
  assert cuts(tmp_path, pictures, times) == [pytest.approx(1.0), pytest.approx(2.0)]


def test_the_contrast_is_that_of_its_definition():
  differences = np.array([0.0, 2.0, 3.0, 40.0, 5.0, 1.0])
  assert scenes.contrast(differences).tolist() == pytest.approx(
    [0, 2 / (4 + 43 / 2), 3 / (4 + 47 / 3), 40 / (4 + 11 / 4), 5 / (4 + 44 / 3), 1 / (4 + 45 / 2)]
  )
  assert scenes.contrast(np.zeros(1)).tolist() == [0]
  assert scenes.contrast(np.array([0.0, 12.0])).tolist() == [0, 3]
