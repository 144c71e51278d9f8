import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data import dataset, decode
from tests.data.videos import encoded, numbered

LENGTHS = {'a.mkv': 40, 'folder/b.mkv': 25, 'c.mkv': 30, 'd.mkv': 30}  # frames at ten a second


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """A folder of videos, and the dataset built from it."""
  videos, out = tmp_path_factory.mktemp('videos'), tmp_path_factory.mktemp('out') / 'set'
  clips = []
  for file, length in LENGTHS.items():
    contents = encoded(numbered(length, 24), np.arange(length) * 100)
    (videos / file).parent.mkdir(exist_ok=True)
    (videos / file).write_bytes(contents)
    split = 'test' if file in ('c.mkv', 'd.mkv') else 'train'
    clips.append(dataset.Clip(file, f'film «{file}»', split, decode.probe(contents)))
  dataset.write(videos, clips, out, shards=2)
  return videos, out


def source(written, **kwargs):
  return dataset.Videos(str(written[1]), **{'size': 8, 'frames': 20, 'fps': 10.0} | kwargs)


def test_tfds_reads_the_files_and_what_is_known_of_them(written):
  videos, out = written
  records = tfds.builder_from_directory(out).as_data_source(split='train')
  assert [r['file'].decode() for r in records] == ['a.mkv', 'folder/b.mkv']
  for record in records:
    file = record['file'].decode()
    assert record['video'] == (videos / file).read_bytes()
    assert record['caption'].decode() == f'film «{file}»'
    assert record['frames'] == LENGTHS[file]
    assert record['seconds'] == pytest.approx(LENGTHS[file] / 10)
    assert (record['height'], record['width']) == (16, 24)


def test_nothing_but_the_dataset_is_written(written):
  shards = {f'videos-{s}.array_record-0000{i}-of-00002' for s in ('train', 'test') for i in (0, 1)}
  files = {p.name for p in written[1].iterdir()}
  assert files == {
    'dataset_info.json',
    'features.json',
    'lengths.npz',
    'metadata.json',
    'sizes.npz',
    *shards,
  }


def test_no_tensorflow_is_imported(written):
  code = (
    'import sys; from data import dataset; '
    'dataset.Videos(sys.argv[1], size=8, frames=20, fps=10.0)[0]; '
    "assert 'tensorflow' not in sys.modules"
  )
  subprocess.run([sys.executable, '-c', code, str(written[1])], check=True)


@pytest.mark.parametrize('crop', ['center', 'random'])
def test_a_window_is_consecutive_frames_of_the_asked_format(written, crop):
  videos = source(written, crop=crop)
  assert len(videos) == 2
  rng = np.random.default_rng(0)
  firsts = set()
  for _ in range(30):
    clip = videos.draw(1, rng)
    assert clip['video'].shape == (20, 8, 8, 3)
    assert clip['caption'] == 'film «folder/b.mkv»'
    first = int(clip['video'][0, 0, 0, 0])
    firsts.add(first)
    assert clip['video'][:, 0, 0, 0].tolist() == list(range(first, first + 20))
  assert firsts == {0, 1, 2, 3, 4}  # five windows of 20 frames begin within the first 0.5 s of 25


def test_an_index_is_the_same_window_each_time(written):
  videos = source(written, crop='random')
  np.testing.assert_array_equal(videos[0]['video'], videos[0]['video'])


def test_mistakes_are_reported(written):
  facts = decode.Facts(1, 1.0, 16, 16, None)
  clips = [dataset.Clip('a.mkv', 'a film', split, facts) for split in ('train', 'train', 'test')]
  with pytest.raises(ValueError, match=r"Got 2 shards; 'test' has at most 1 clips, so 1\.\.1 a"):
    dataset.write(written[0], clips, written[1] / 'none', shards=2)
  with pytest.raises(ValueError, match=r"Got split='dev'; .*set has \['test', 'train'\]"):
    source(written, split='dev')
  with pytest.raises(ValueError, match=r"Got crop='left'; allowed are \['center', 'random'\]"):
    source(written, crop='left')
  with pytest.raises(ValueError, match=r'Got data\.frames=41; none of the 2 clips of .*1\.\.40\.'):
    source(written, frames=41)


def test_a_record_which_fails_is_named(written, monkeypatch):
  videos = source(written)
  monkeypatch.setattr(decode, 'MAX_PIXELS', 1)
  with pytest.raises(ValueError, match=r'^folder/b\.mkv, record 1: frames of 24 x 16 pixels'):
    _ = videos[1]
