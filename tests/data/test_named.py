"""Datasets of TFDS are read by their names, with the pixels and labels that were written."""

import json
import pathlib
import pickle
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data import mixture, named, pipeline
from data.captions import words
from tests.data.images import noise
from tests.data.tfds_sets import encoded, write

LABELS = ('ApplyEyeMakeup', 'Archery', 'BabyCrawling')
LENGTHS = (5, 12, 1, 8)
SHAPES = ((16, 24), (32, 16), (64, 64), (20, 20))
RNG = np.random.default_rng(0)
CLIPS = [RNG.integers(0, 256, (t, *s, 3), np.uint8) for t, s in zip(LENGTHS, SHAPES)]
DIGITS = RNG.integers(0, 256, (3, 20, 64, 64, 1), np.uint8)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Datasets with the features of UCF101, Moving MNIST and CIFAR-10."""
  folder = tmp_path_factory.mktemp('tfds')
  f = tfds.features
  clips = [{'video': [encoded(x) for x in c], 'label': i % 3} for i, c in enumerate(CLIPS)]
  write(
    folder,
    'ucf101',
    lambda: {'video': f.Video((None, None, None, 3)), 'label': f.ClassLabel(names=LABELS)},
    {'train': clips, 'test': clips[:1]},
    configs=('ucf101_1', 'ucf101_2'),
  )
  write(
    folder,
    'moving_mnist',
    lambda: {'image_sequence': f.Video((20, 64, 64, 1))},
    {'test': [{'image_sequence': [encoded(x) for x in clip]} for clip in DIGITS]},
  )
  write(
    folder,
    'cifar10',
    lambda: {
      'id': f.Text(),
      'image': f.Image(shape=(32, 32, 3)),
      'label': f.ClassLabel(names=LABELS),
    },
    {'train': [{'id': 'train_1', 'image': encoded(noise(32, 32, 3)), 'label': 2}]},
  )
  write(
    folder,
    'captioned',
    lambda: {'image': f.Image(), 'text': f.Text(), 'label': f.ClassLabel(num_classes=3)},
    {'train': [{'image': encoded(noise(9, 8, 3)), 'text': 'a «dog»', 'label': -1}]},
  )
  write(
    folder,
    'pairs',
    lambda: {'left': f.Image(), 'right': f.Image(), 'label': f.ClassLabel(num_classes=3)},
    {'train': [{'left': encoded(noise(9, 8, 3)), 'right': encoded(noise(9, 8, 3)), 'label': 1}]},
  )
  return folder


@pytest.fixture(autouse=True)
def _found(folder, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(folder))


def opened(name, **window):
  return pipeline.open_source(f'tfds:{name}', **{'size': 16, 'frames': 1, 'fps': 16.0} | window)


def test_windows_are_successive_frames_of_clips_that_are_long_enough(folder):
  source = opened('ucf101', frames=5)
  assert len(source) == 3
  assert source.left_out == '1 clips are left out: 1 have fewer than 5 frames.'
  rng, firsts = np.random.default_rng(0), set()
  for _ in range(40):
    # A clip of 32 x 16 pixels is not resized; its middle is cropped.
    example = source.draw(1, rng)
    assert example['caption'] == 'archery'
    [first] = [t for t in range(8) if np.array_equal(example['video'], CLIPS[1][t : t + 5, 8:24])]
    firsts.add(first)
  assert firsts == set(range(8))
  np.testing.assert_array_equal(source[2]['video'], source[2]['video'])
  assert [source[i]['caption'] for i in range(3)] == [words(LABELS[i]) for i in (0, 1, 0)]
  assert 'tensorflow' not in sys.modules
  # The sizes are read once, and kept beside the dataset unless it cannot be written.
  [kept] = pathlib.Path(folder).rglob('shapes-train.npz')
  wanted = [(t, *shape) for t, shape in zip(LENGTHS, SHAPES)]
  np.testing.assert_array_equal(np.load(kept)['shapes'], wanted)
  contents = kept.read_bytes()
  middle = len(contents) // 2
  changed = contents[:middle] + bytes([contents[middle] ^ 255]) + contents[middle + 1 :]
  for damage in (b'', b'text', contents[:-3], changed):
    kept.write_bytes(damage)
    assert len(opened('ucf101', frames=5)) == 3
    np.testing.assert_array_equal(np.load(kept)['shapes'], wanted)


def test_small_clips_are_left_out_or_refused():
  with pytest.raises(ValueError, match=r'1 of the 3 clips of tfds:ucf101 \(train\) would be enlar'):
    opened('ucf101', frames=5, size=(20, 16))
  source = opened('ucf101', frames=5, size=20, min_side=20)
  assert len(source) == 1
  np.testing.assert_array_equal(source[0]['video'].shape, (5, 20, 20, 3))
  assert source.left_out == (
    '3 clips are left out: 1 have fewer than 5 frames, and 2 are smaller than data.min_side=20.'
  )
  with pytest.raises(ValueError, match=r'Got data\.frames=13; none of the 4 clips .* 1\.\.12\.'):
    opened('ucf101', frames=13)


def test_grey_frames_are_in_three_channels_and_the_only_split_is_trained_on():
  digits = {'size': 64, 'caption_template': 'two moving digits'}
  source = opened('moving_mnist', frames=20, **digits)
  # Otherwise a set whose only split is 'validation' would be evaluated on what it trains on.
  assert pipeline.splits('tfds:moving_mnist') == ['train']
  for i, clip in enumerate(DIGITS):
    np.testing.assert_array_equal(source[i]['video'], np.repeat(clip, 3, -1))
    assert source[i]['caption'] == 'two moving digits'
  assert len(opened('moving_mnist', split='test', **digits)) == 3
  with pytest.raises(ValueError, match=r"Got split='dev'; tfds:moving_mnist has \['test'\]"):
    opened('moving_mnist', split='dev', **digits)
  for template in ('', 'a video of {label}'):
    with pytest.raises(
      ValueError, match=r'features image_sequence: Video, none of which is a capt'
    ):
      opened('moving_mnist', caption_template=template)


def test_images_are_clips_of_one_frame_and_templates_are_for_labels():
  source = opened('cifar10', size=32, caption_template='a photo of {label}')
  assert source[0]['caption'] == 'a photo of baby crawling'
  np.testing.assert_array_equal(source[0]['video'], noise(32, 32, 3)[None])
  assert opened('captioned', size=8, caption_template='a {label}')[0]['caption'] == 'a «dog»'
  with pytest.raises(ValueError, match=r'none of the 1 clips of tfds:cifar10 .* \(all are images'):
    opened('cifar10', frames=2)
  with pytest.raises(ValueError, match=r"Got data\.caption_template='a'; allowed is a text with"):
    opened('cifar10', caption_template='a')
  with pytest.raises(
    ValueError, match='features label: ClassLabel, left: Image, right: Image; one'
  ):
    opened('pairs')
  with pytest.raises(ValueError, match=r'it is for sources such as tfds:ucf101'):
    mixture.open_sources('synthetic', size=8, frames=1, fps=16.0, caption_template='a')


def test_what_is_not_prepared_is_refused_with_the_command_that_does_it(folder, tmp_path):
  with pytest.raises(ValueError, match="Got the source 'tfds:kinetics'") as error:
    opened('kinetics')
  command = f'tfds build kinetics --file_format=array_record --data_dir={folder}'
  assert command in str(error.value)
  assert '\n' not in str(error.value)
  path = next(pathlib.Path(folder, 'cifar10').rglob('dataset_info.json'))
  info = path.read_text()
  try:
    path.write_text(json.dumps(json.loads(info) | {'fileFormat': 'tfrecord'}))
    with pytest.raises(ValueError, match='has files of the format tfrecord; allowed is array_rec'):
      opened('cifar10')
  finally:
    path.write_text(info)
  shard = next(pathlib.Path(folder, 'moving_mnist').rglob('*array_record-*'))
  contents = shard.read_bytes()
  try:
    shard.write_bytes(contents[: len(contents) // 2])
    with pytest.raises(ValueError, match='is damaged or truncated'):
      opened('moving_mnist', caption_template='digits')
  finally:
    shard.write_bytes(contents)


def test_a_worker_gets_the_same_source():
  source = opened('ucf101', frames=5)
  # Without TensorFlow, a builder or its features could not be unpickled.
  records, caption = pickle.loads(pickle.dumps((source._records, source._caption)))
  assert records[1] == source._records[1]
  assert caption(source._values(1)) == source[1]['caption']
  assert named.splits('tfds:ucf101') == ['test', 'train']


def test_a_record_that_is_no_picture_is_named(folder):
  f, good = tfds.features, encoded(noise(9, 8, 3))
  write(
    folder,
    'torn',
    lambda: {'image': f.Image(), 'text': f.Text()},
    {'train': [{'image': image, 'text': 'a'} for image in (good, good[:20])]},
  )
  with pytest.raises(ValueError, match=r'^tfds:torn, record 1: Truncated File Read'):
    opened('torn', size=8)
