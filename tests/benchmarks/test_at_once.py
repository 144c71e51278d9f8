"""Temporal super-resolution: its windows cover a video, and keyframes are kept."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import at_once
from data.masks import KEYFRAME_STEP


@pytest.mark.parametrize(('frames', 'window'), [(80, 20), (80, 16), (40, 20), (20, 20)])
def test_windows_cover_all_frames_and_begin_with_the_last_keyframe_before(frames, window):
  starts = at_once.starts(frames, window)
  assert all(start % KEYFRAME_STEP == 0 for start in starts)
  assert starts[-1] + window == frames
  for before, start in itertools.pairwise(starts):
    assert before < start <= before + window - KEYFRAME_STEP


def test_keyframes_are_kept_and_frames_between_are_generated(monkeypatch):
  """Models that count: keyframes have the values 1, 2, ..., and the others become 200."""
  first = np.arange(1, 21, dtype=np.uint8)[:, None, None, None] * np.ones((8, 8, 3), np.uint8)
  masks = []

  def generated(model, prompts, numbers, condition=None):
    if model == 'keyframes':
      return first[None]
    masks.append(np.asarray(condition.mask)[0, :, 0, 0, 0])
    clip = np.round((np.asarray(condition.masked_video) + 1) * 127.5).astype(np.uint8)
    return np.where(np.asarray(condition.mask) > 0, clip, np.uint8(200))

  monkeypatch.setattr(at_once, 'generated', generated)
  between = SimpleNamespace(config=SimpleNamespace(data=SimpleNamespace(frames=20)))
  video = at_once.in_between('keyframes', between, 80, 'a prompt', 0)
  np.testing.assert_array_equal(video[::4], first)
  assert (np.delete(video, np.s_[::4], axis=0) == 200).all()
  assert len(masks) == 5
  for mask in masks:
    np.testing.assert_array_equal(mask, np.arange(20) % 4 == 0)
