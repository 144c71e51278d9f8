import dataclasses
import json

import numpy as np
import pytest

from data import synthetic
from evaluation import frechet, scores
from evaluation.features import Features
from evaluation.inception_score import inception_score
from evaluation.scores import Settings
from evaluation.videos import open_folder

TOLD = Settings(reference='set by each test', i3d='random:0', c3d='random:1', batch=3, splits=2)


@pytest.fixture
def networks(monkeypatch):
  """Networks whose features are three of a clip's bytes, and how often each was opened."""
  opened = []

  def open_features(network, source, batch):
    opened.append((network, source, batch))
    prepare = lambda clip: clip[:, :1, :1].astype(np.float32)
    see = lambda clips: clips[:, 0, 0, 0] + clips[:, -1, 0, 0]
    return Features(network, source, 'one pixel', prepare, see)

  monkeypatch.setattr(scores, '_network', open_features)
  scores._reference.cache_clear()
  return opened


def write(folder, count, frames=16, seed=0):
  folder.mkdir(exist_ok=True)
  rng = np.random.default_rng(seed)
  clips = rng.integers(0, 99, (count, frames, 4, 4, 3), dtype=np.uint8)
  for i, clip in enumerate(clips):
    np.save(folder / f'{i:03}.npy', clip)
  return clips


def features(clips, last):
  return clips[:, 0, 0, 0].astype(np.float64) + clips[:, last, 0, 0]


def test_fvd_is_the_distance_of_what_the_network_sees(tmp_path, networks):
  ours, real = write(tmp_path / 'ours', 8, 20), write(tmp_path / 'real', 11, 20, 1)
  told = dataclasses.replace(TOLD, reference=str(tmp_path / 'real'))
  found = scores.fvd(open_folder(tmp_path / 'ours'), told)
  wanted = frechet.distance(*(frechet.moments(features(clips, 15)) for clips in (ours, real)))
  assert found['score']['fvd'] == pytest.approx(wanted, rel=1e-6)
  protocol = found['protocol']
  assert (protocol['clips'], protocol['reference_clips']) == (8, 11)
  assert protocol['reading'] == {'frames': 16, 'fps': None, 'stride': 1, 'windows': 'first'}
  assert protocol['reference'] == open_folder(tmp_path / 'real').digest()
  assert protocol['network'] == {'name': 'i3d', 'weights': 'random:0', 'prepared': 'one pixel'}
  assert protocol['stored'] == ['.npy']
  assert not protocol['fewer_clips_than_features']
  assert found['digest'] == open_folder(tmp_path / 'ours').digest()
  json.dumps(found)


def test_fvd_of_a_set_with_itself_is_nothing(tmp_path, networks):
  write(tmp_path / 'real', 3)
  told = dataclasses.replace(TOLD, reference=str(tmp_path / 'real'))
  found = scores.fvd(open_folder(tmp_path / 'real'), told)
  assert found['score']['fvd'] < 1e-9
  assert found['protocol']['fewer_clips_than_features']


def test_reading_is_what_was_told(tmp_path, networks):
  clips = write(tmp_path / 'real', 6, 20)
  told = dataclasses.replace(TOLD, reference=str(tmp_path / 'real'), frames=3, stride=4)
  found = scores.fvd(open_folder(tmp_path / 'real'), told)
  assert found['protocol']['reading']['stride'] == 4
  write(tmp_path / 'real', 6, 9)
  changed = scores.fvd(open_folder(tmp_path / 'real'), dataclasses.replace(told, seed=1))
  assert len(features(clips, 8)) == changed['protocol']['clips'] == 6


def test_what_is_broken_is_counted_in_ours_and_an_error_in_the_reference(tmp_path, networks):
  for name in ('ours', 'real'):
    write(tmp_path / name, 4)
  np.save(tmp_path / 'ours' / 'short.npy', np.zeros((5, 4, 4, 3), np.uint8))
  (tmp_path / 'ours' / 'broken.mp4').write_bytes(b'none')
  told = dataclasses.replace(TOLD, reference=str(tmp_path / 'real'))
  found = scores.fvd(open_folder(tmp_path / 'ours'), told)
  assert list(found['skipped']) == ['broken.mp4', 'short.npy']
  assert found['protocol']['clips'] == 4
  backwards = dataclasses.replace(TOLD, reference=str(tmp_path / 'ours'))
  with pytest.raises(ValueError, match='2 videos of the reference cannot be used, as broken'):
    scores.fvd(open_folder(tmp_path / 'real'), backwards)


def test_too_few_are_an_error_and_never_drawn_twice(tmp_path, networks):
  write(tmp_path / 'real', 4)
  told = dataclasses.replace(TOLD, reference=str(tmp_path / 'real'), count=5)
  with pytest.raises(ValueError, match='has 4 clips of 16 frames, and 5 are asked for'):
    scores.fvd(open_folder(tmp_path / 'real'), told)
  write(tmp_path / 'one', 1)
  with pytest.raises(ValueError, match='Got 1 samples; a covariance needs 2 or more'):
    scores.fvd(open_folder(tmp_path / 'one'), dataclasses.replace(told, count=1))


def test_a_count_is_drawn_by_the_seed(tmp_path, networks):
  write(tmp_path / 'real', 20)
  told = dataclasses.replace(TOLD, reference=str(tmp_path / 'real'), count=5)
  found = [
    scores.fvd(open_folder(tmp_path / 'real'), dataclasses.replace(told, seed=s)) for s in (0, 0, 1)
  ]
  values = [of['score']['fvd'] for of in found]
  assert values[0] == values[1] != values[2]
  assert [of['protocol']['drawn_by_seed'] for of in found] == [0, 0, 1]


def test_inception_score_of_what_the_network_says(tmp_path, networks):
  clips = write(tmp_path / 'ours', 7) // 20
  for i, clip in enumerate(clips):
    np.save(tmp_path / 'ours' / f'{i:03}.npy', clip)
  found = scores.inception_score(open_folder(tmp_path / 'ours'), dataclasses.replace(TOLD, seed=3))
  order = np.random.default_rng(3).permutation(7)
  wanted = inception_score(features(clips, 15)[order], 2)
  assert tuple(found['score'].values()) == pytest.approx(wanted)
  assert networks == [('c3d', 'random:1', 3)]
  assert found['protocol']['splits'] == 2
  assert found['protocol']['split_by_seed'] == 3


def test_splits_have_all_classes_though_files_are_in_their_order(tmp_path, networks):
  clips = np.zeros((40, 16, 1, 1, 3), np.uint8)
  for i, clip in enumerate(clips):
    clip[..., i // 14] = 99  # sure of one of three classes
    np.save(tmp_path / f'{i:02}.npy', clip)
  found = scores.inception_score(open_folder(tmp_path), TOLD)
  assert inception_score(features(clips, 15), 2)[0] < 2.1
  assert found['score']['inception_score'] > 2.7


def test_shapes_are_what_their_prompts_say(tmp_path):
  drawn = [synthetic.clip(i, size=32, frames=40, fps=8) for i in range(6)]
  lines = []
  for i, clip in enumerate(drawn):
    np.save(tmp_path / f'{i}.npy', clip['video'])
    lines.append({'file': f'{i}.npy', 'prompt': clip['caption']})
  other = next(s for s in synthetic.SCENES if s.colour != drawn[5]['facts'].colour)
  lines[5]['prompt'] = other.caption
  index = tmp_path / 'index.jsonl'
  index.write_text('\n'.join(map(json.dumps, lines)))
  found = scores.shapes(open_folder(tmp_path), Settings())
  assert found['score']['colour'] == 5 / 6
  assert found['videos'][5]['colour'] == [other.colour, drawn[5]['facts'].colour]
  index.write_text('\n'.join(json.dumps(line | {'prompt': 'a cat'}) for line in lines))
  with pytest.raises(ValueError, match="Got the prompt 'a cat'; allowed are those as 'a red"):
    scores.shapes(open_folder(tmp_path), Settings())


@pytest.mark.parametrize(
  ('metric', 'message'),
  [
    ('fvd', 'fvd needs reference and i3d'),
    ('inception_score', 'inception_score needs c3d'),
    ('clip_score', 'clip_score needs clip and vocabulary'),
    ('psnr', "Unknown metric: 'psnr'.  Allowed: clip_score, fvd"),
  ],
)
def test_what_a_metric_needs_is_said(metric, message):
  with pytest.raises(ValueError, match=message):
    scores.require(metric, Settings())
