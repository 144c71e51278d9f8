import dataclasses
import json

import numpy as np
import pytest

from core import video
from data import synthetic
from evaluation import protocol, scores
from evaluation.feature_statistics import feature_moments, frechet_distance, inception_score
from evaluation.features.networks import ClipNetwork, FeatureNetwork
from evaluation.folder import open_folder
from evaluation.scores import Settings

SETTINGS = Settings(reference='set by each test', i3d='random:0', c3d='random:1', batch=3, splits=2)


@pytest.fixture
def networks(monkeypatch):
  """Replaces networks by sums of two pixels; returns the arguments with which they were opened."""
  opened = []

  def open_features(network, source, batch):
    opened.append((network, source, batch))
    prepare = lambda clip: clip[:, :1, :1].astype(np.float32)
    extract = lambda clips: clips[:, 0, 0, 0] + clips[:, -1, 0, 0]
    return FeatureNetwork(network, source, 'one pixel', prepare, extract)

  monkeypatch.setattr(scores, '_open_features', open_features)
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


def test_fvd_is_the_distance_of_features(tmp_path, networks):
  ours, real = write(tmp_path / 'ours', 8, 20), write(tmp_path / 'real', 11, 20, 1)
  settings = dataclasses.replace(SETTINGS, reference=str(tmp_path / 'real'))
  result = scores.fvd(open_folder(tmp_path / 'ours'), settings)
  expected = frechet_distance(*(feature_moments(features(clips, 15)) for clips in (ours, real)))
  assert result['score']['fvd'] == pytest.approx(expected, rel=1e-6)
  protocol = result['protocol']
  assert (protocol['clips'], protocol['reference_clips']) == (8, 11)
  reading = {'frames': 16, 'fps': None, 'stride': 1, 'windows': 'first'}
  assert protocol['reading'] == reading | {'pixels': 'upright and square'}
  assert protocol['reference'] == open_folder(tmp_path / 'real').digest()
  assert protocol['network'] == {'name': 'i3d', 'weights': 'random:0', 'prepared': 'one pixel'}
  assert protocol['stored'] == ['.npy']
  assert not protocol['fewer_clips_than_features']
  assert result['digest'] == open_folder(tmp_path / 'ours').digest()
  json.dumps(result)


def test_fvd_of_a_set_with_itself_is_nothing(tmp_path, networks):
  write(tmp_path / 'real', 3)
  settings = dataclasses.replace(SETTINGS, reference=str(tmp_path / 'real'))
  result = scores.fvd(open_folder(tmp_path / 'real'), settings)
  assert result['score']['fvd'] < 1e-9
  assert result['protocol']['fewer_clips_than_features']


def test_clips_are_read_as_the_settings_say(tmp_path, networks):
  ours, real = write(tmp_path / 'ours', 8, 20), write(tmp_path / 'real', 6, 20, 1)
  settings = dataclasses.replace(SETTINGS, reference=str(tmp_path / 'real'), frames=3, stride=4)
  result = scores.fvd(open_folder(tmp_path / 'ours'), settings)
  expected = frechet_distance(*(feature_moments(features(clips, 8)) for clips in (ours, real)))
  assert result['score']['fvd'] == pytest.approx(expected, rel=1e-6)
  assert result['protocol']['reading']['stride'] == 4


def test_clips_of_the_reference_are_drawn_by_a_seed_in_the_protocol(tmp_path, networks):
  write(tmp_path / 'real', 20)
  settings = dataclasses.replace(SETTINGS, reference=str(tmp_path / 'real'), reference_count=5)
  one, two = (
    scores.fvd(open_folder(tmp_path / 'real'), dataclasses.replace(settings, seed=s))
    for s in (0, 1)
  )
  assert one['score'] != two['score']
  differ = protocol.differences([one['protocol'], two['protocol']])
  assert differ == {'reference_drawn_by_seed': [0, 1]}


def test_how_samples_were_made_is_in_the_protocol_and_which_model_is_not(tmp_path, networks):
  write(tmp_path / 'ours', 3)
  made = {'model': 't2v step 3', 'weights': 'ab', 'guidance': '7.5', 'seed': '1'}
  index = tmp_path / 'ours/index.jsonl'
  lines = ({'file': f'{i:03}.npy', 'prompt': 'a cat', 'number': str(i)} | made for i in range(3))
  index.write_text('\n'.join(map(json.dumps, lines)))
  result = scores.inception_score(open_folder(tmp_path / 'ours'), SETTINGS)
  assert (result['of'], result['made_by']) == ('t2v step 3', made)
  assert result['protocol']['sampling'] == {'guidance': '7.5', 'seed': '1'}
  index.unlink()
  result = scores.inception_score(open_folder(tmp_path / 'ours'), SETTINGS)
  assert (result['of'], result['protocol']['sampling']) == (str(tmp_path / 'ours'), None)


@pytest.mark.parametrize(('frames', 'adjacent'), [(2, 0.0), (1, None)])
def test_clip_score_is_of_frames_and_their_prompt(tmp_path, monkeypatch, frames, adjacent):
  """Embeddings of frames are axes 0 and 1; those of texts are axis 0, or 1 for 'other'."""
  extract = lambda clips: np.eye(3, dtype=np.float32)[None, : clips.shape[1]]
  texts = lambda texts: np.eye(3, dtype=np.float32)[[int(text == 'other') for text in texts]]
  clip = ClipNetwork(FeatureNetwork('clip_b32', 'random:0', '', lambda clip: clip, extract), texts)
  monkeypatch.setattr(scores, '_open_clip', lambda *settings: clip)
  write(tmp_path, 2, 2)
  lines = [{'file': f'{i:03}.npy', 'prompt': text} for i, text in enumerate(['one', 'other'])]
  (tmp_path / 'index.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  settings = Settings(clip='random:0', vocabulary='some', frames=frames)
  result = scores.clip_score(open_folder(tmp_path), settings)
  assert [row['text'] for row in result['videos']] == ([50, 50] if frames == 2 else [100, 0])
  assert result['score']['text'] == 50
  assert result['score'].get('adjacent_frames') == adjacent


def test_motion_of_samples_is_at_their_own_rate(tmp_path):
  clips = np.random.default_rng(0).integers(0, 256, (2, 8, 32, 32, 3), dtype=np.uint8)
  lines = [{'file': f'{i}.mp4', 'model': 'm', 'fps': '4.0', 'number': str(i)} for i in range(2)]
  for line, clip in zip(lines, clips):
    video.write(tmp_path / line['file'], clip, fps=4.0)
  repeated = scores.motion(open_folder(tmp_path), Settings())
  (tmp_path / 'index.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  result = scores.motion(open_folder(tmp_path), Settings())
  assert (repeated['score']['frozen'], result['score']['frozen']) == (
    pytest.approx(24 / 31),
    0,
  )
  assert result['protocol']['reading']['fps'] == 4


def test_what_is_broken_is_counted_in_ours_and_an_error_in_the_reference(tmp_path, networks):
  for name in ('ours', 'real'):
    write(tmp_path / name, 4)
  np.save(tmp_path / 'ours' / 'short.npy', np.zeros((5, 4, 4, 3), np.uint8))
  (tmp_path / 'ours' / 'broken.mp4').write_bytes(b'none')
  settings = dataclasses.replace(SETTINGS, reference=str(tmp_path / 'real'))
  result = scores.fvd(open_folder(tmp_path / 'ours'), settings)
  assert list(result['skipped']) == ['broken.mp4', 'short.npy']
  assert result['protocol']['clips'] == 4
  backwards = dataclasses.replace(SETTINGS, reference=str(tmp_path / 'ours'))
  with pytest.raises(ValueError, match=r'broken\.mp4 of the reference cannot be used: '):
    scores.fvd(open_folder(tmp_path / 'real'), backwards)


def test_too_few_are_an_error_and_never_drawn_twice(tmp_path, networks):
  write(tmp_path / 'real', 4)
  settings = dataclasses.replace(SETTINGS, reference=str(tmp_path / 'real'), count=5)
  with pytest.raises(ValueError, match='has 4 clips of 16 frames, and 5 are asked for'):
    scores.fvd(open_folder(tmp_path / 'real'), settings)
  write(tmp_path / 'one', 1)
  with pytest.raises(ValueError, match='Got 1 samples; a covariance needs 2 or more'):
    scores.fvd(open_folder(tmp_path / 'one'), dataclasses.replace(settings, count=1))


def test_a_count_is_drawn_by_the_seed(tmp_path, networks):
  write(tmp_path / 'real', 20)
  settings = dataclasses.replace(SETTINGS, reference=str(tmp_path / 'real'), count=5)
  result = [
    scores.fvd(open_folder(tmp_path / 'real'), dataclasses.replace(settings, seed=s))
    for s in (0, 0, 1)
  ]
  values = [entry['score']['fvd'] for entry in result]
  assert values[0] == values[1] != values[2]
  assert [entry['protocol']['drawn_by_seed'] for entry in result] == [0, 0, 1]


def test_inception_score_of_logits(tmp_path, networks):
  clips = write(tmp_path / 'ours', 7) // 20
  for i, clip in enumerate(clips):
    np.save(tmp_path / 'ours' / f'{i:03}.npy', clip)
  result = scores.inception_score(
    open_folder(tmp_path / 'ours'), dataclasses.replace(SETTINGS, seed=3)
  )
  order = np.random.default_rng(3).permutation(7)
  expected = inception_score(features(clips, 15)[order], 2)
  assert tuple(result['score'].values()) == pytest.approx(expected)
  assert networks == [('c3d', 'random:1', 3)]
  assert result['protocol']['splits'] == 2
  assert result['protocol']['split_by_seed'] == 3


def test_splits_have_all_classes_though_files_are_in_their_order(tmp_path, networks):
  clips = np.zeros((40, 16, 1, 1, 3), np.uint8)
  for i, clip in enumerate(clips):
    clip[..., i // 14] = 99  # sure of one of three classes
    np.save(tmp_path / f'{i:02}.npy', clip)
  result = scores.inception_score(open_folder(tmp_path), SETTINGS)
  assert inception_score(features(clips, 15), 2)[0] < 2.1
  assert result['score']['inception_score'] > 2.7


def test_shapes_are_what_their_prompts_say(tmp_path):
  clips = [synthetic.clip(i, size=32, frames=40, fps=8) for i in range(6)]
  lines = []
  for i, clip in enumerate(clips):
    np.save(tmp_path / f'{i}.npy', clip['video'])
    lines.append({'file': f'{i}.npy', 'prompt': clip['caption']})
  other = next(s for s in synthetic.SCENES if s.colour != clips[5]['facts'].colour)
  lines[5]['prompt'] = other.caption
  index = tmp_path / 'index.jsonl'
  index.write_text('\n'.join(map(json.dumps, lines)))
  result = scores.shapes(open_folder(tmp_path), Settings())
  assert result['score']['colour'] == result['score']['all'] == 5 / 6
  assert result['score']['steadiness']['flicker'] == 0
  assert result['score']['steadiness_of_truth']['jitter'] < 0.1
  assert result['videos'][5]['colour'] == [other.colour, clips[5]['facts'].colour]
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
def test_a_metric_names_the_settings_it_needs(metric, message):
  with pytest.raises(ValueError, match=message):
    scores.require(metric, Settings())


def test_settings_are_looked_at_before_anything_is_made(tmp_path):
  settings = Settings(reference=str(tmp_path / 'none'), i3d='random:0')
  with pytest.raises(ValueError, match='There is no folder'):
    scores.require('fvd', settings)
  with pytest.raises(ValueError, match="Got windows='frist'; allowed are first, all"):
    scores.require('motion', Settings(windows='frist'))
  for metric, settings, message in (
    ('fvd', Settings(i3d='none.npz'), 'There is no file none'),
    ('inception_score', Settings(c3d='none.pt'), 'is a pickle'),
    ('clip_score', Settings(clip='random:0', vocabulary='none'), 'There is no file none'),
  ):
    with pytest.raises(ValueError, match=message):
      scores.open_network(metric, settings)
