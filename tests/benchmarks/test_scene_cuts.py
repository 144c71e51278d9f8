"""Joins are counted as detected where the detector has a cut, and as missed where it has none."""

import numpy as np
import pytest

from benchmarks import scene_cuts
from data import scenes
from tests.data.test_scenes import panning
from tests.data.videos import encoded


@pytest.fixture
def paths(tmp_path):
  (tmp_path / 'text.mkv').write_text('no video')
  for i in range(2):
    (tmp_path / f'{i}.mkv').write_bytes(encoded(panning(i, 12), np.arange(12) * 80))
  pictures = np.concatenate([panning(3, 12), panning(4, 12)])
  (tmp_path / 'cut.mkv').write_bytes(encoded(pictures, np.arange(24) * 80))
  return sorted(tmp_path.iterdir())


def test_there_are_sixty_ways():
  assert len(set(scene_cuts.WAYS)) == 60


def test_videos_with_cuts_and_joins_are_counted(paths, monkeypatch):
  usable, detected = scene_cuts.uncut(paths, scenes.THRESHOLD)
  assert [path.name for path in usable] == ['0.mkv', '1.mkv', 'cut.mkv']
  assert detected == {'cut.mkv': [pytest.approx(0.96, abs=0.01)]}
  monkeypatch.setattr(scene_cuts, 'WAYS', ((12.0, 64, 0), (24.0, 32, 28)))
  del usable[paths[2]]
  for threshold, hit in ((scenes.THRESHOLD, True), (64.0, False)):
    joins = list(scene_cuts.joined(usable, threshold, seed=0))
    assert [(join['hit'], join['others']) for join in joins] == [(hit, 0)] * 2
    assert {*joins[0]['videos']} == {'0.mkv', '1.mkv'}
