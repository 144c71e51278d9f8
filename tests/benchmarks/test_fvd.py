import subprocess
import sys
import types

import numpy as np
import pytest

from benchmarks import fvd
from benchmarks.distortions import distorted
from benchmarks.fvd import STRENGTHS, WHOLE, grows, moments, table
from core import command
from evaluation.feature_statistics import feature_moments
from evaluation.features.networks import FeatureNetwork

RNG = np.random.default_rng(0)
CLIPS = [RNG.integers(0, 256, (9, 8 + i, 10, 3), np.uint8) for i in range(5)]  # sizes differ


def prepare(clip):
  return clip[:, :8].astype(np.float32)


def see(clips):
  weights = np.random.default_rng(1).normal(size=(9 * 8 * 10 * 3, 4)).astype(np.float32)
  return clips.reshape(len(clips), -1) @ weights / 1000


@pytest.mark.parametrize('batch', [1, 4, 100])
def test_each_clip_is_damaged_by_a_seed_of_its_own(batch):
  sizes = []
  counted = lambda clips: sizes.append(len(clips)) or see(clips)
  network = FeatureNetwork('sum', 'none', 'cut', prepare, counted)
  result = moments(network, iter(CLIPS), ('noise', 'frame shuffling'), batch)
  assert len(result) == 1 + 2 * len(STRENGTHS)
  assert max(sizes) <= batch
  assert sum(sizes) == len(CLIPS) * len(result)
  for (kind, strength), one in result.items():
    whole = (kind, strength) == WHOLE
    made = [c if whole else distorted(c, kind, strength, seed) for seed, c in enumerate(CLIPS)]
    known = feature_moments(see(np.stack([prepare(clip) for clip in made])))
    assert one.count == len(CLIPS)
    np.testing.assert_allclose(one.mean, known.mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one.scatter, known.scatter, rtol=1e-3, atol=1e-3)


def test_a_distance_that_falls_or_stays_does_not_grow():
  assert grows([1, 2, 3])
  assert not grows([0, 1, 2])
  assert not grows([1, 3, 2])
  assert table({'noise': [1, 2, 3, 4, 5], 'blur': [1, 2, 3, 4, 4]}).splitlines()[2:] == [
    '| noise | 1 | 2 | 3 | 4 | 5 | yes |',
    '| blur | 1 | 2 | 3 | 4 | 4 | NO |',
  ]


def test_it_fails_where_the_distance_does_not_grow(tmp_path, monkeypatch, capsys):
  for i in range(2):  # nothing moves: frozen, they are the same
    np.save(tmp_path / f'{i}.npy', np.full((9, 8, 10, 3), 100 + i, np.uint8))
  network = FeatureNetwork('sum', 'none', 'cut', prepare, see)
  monkeypatch.setattr(fvd, 'open_features', lambda *args: network)
  options = dict(videos=tmp_path, i3d='', count=0, frames=9, batch=4, kinds=['noise', 'freezing'])
  monkeypatch.setattr(fvd.flags, 'FLAGS', types.SimpleNamespace(**options))
  with pytest.raises(SystemExit) as exit:
    fvd.main()
  out, err = capsys.readouterr()
  assert exit.value.code == 2
  assert [line.split(' | ')[-1] for line in out.splitlines()[-2:]] == ['yes |', 'NO |']
  assert err.splitlines()[-1] == 'error: The distance does not grow with freezing.'


def test_fewer_frames_than_i3d_takes_are_refused():
  argv = [sys.executable, '-m', 'benchmarks.fvd', '--videos=.', '--frames=8']
  done = subprocess.run(argv, cwd=command.ROOT, capture_output=True, text=True)
  assert done.returncode == 2
  assert done.stderr == 'error: flag --frames=8: 8 is not integer >= 9\n'
