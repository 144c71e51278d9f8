"""Datasets with a missing or truncated file: opening one is an error with the name of the file."""

import re
import shutil

import numpy as np
import pytest

from data import dataset, decode
from data.pipeline import open_source
from tests.data.videos import encoded, numbered

SHARD = 'videos-train.array_record-00001-of-00002'


@pytest.fixture(scope='module')
def complete(tmp_path_factory):
  """A dataset of five clips in two shards, of two clips and of three."""
  videos, out = tmp_path_factory.mktemp('videos'), tmp_path_factory.mktemp('out') / 'set'
  clips = []
  for i in range(5):
    contents = encoded(numbered(8, 16 + 8 * i), np.arange(8) * 100)
    (videos / f'{i}.mkv').write_bytes(contents)
    clips.append(dataset.Clip(f'{i}.mkv', 'a film', 'train', decode.probe(contents)))
  dataset.write(videos, clips, out, shards=2)
  return out


@pytest.fixture
def copy(complete, tmp_path):
  shutil.copytree(complete, tmp_path / 'set')
  return tmp_path / 'set'


def opened(folder, **window):
  return open_source(str(folder), **{'size': 8, 'frames': 4, 'fps': 10.0} | window)


def refusal(folder, **window):
  with pytest.raises(ValueError, match=r'.+') as error:
    opened(folder, **window)
  return str(error.value)


def test_a_complete_dataset_is_opened(complete):
  assert len(opened(complete)) == 5


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json', 'metadata.json'])
def test_what_describes_a_dataset_must_exist_and_be_complete(copy, name):
  path, text = copy / name, (copy / name).read_text()
  path.write_text(text[: len(text) // 2])
  assert refusal(copy).startswith(f'{path} is damaged: ')
  path.write_text('')
  assert refusal(copy).startswith(f'{path} is damaged: ')
  path.unlink()
  assert refusal(copy) == f'There is no {path}; data.builder writes one with every dataset.'


@pytest.mark.parametrize('left', [0, 100, 2**16 - 1, 2**16, 2**16 + 4000, 2**17 - 1])
def test_a_shard_that_is_cut_short_is_named(copy, left):
  path = copy / SHARD
  contents = path.read_bytes()
  assert len(contents) == 2**17
  path.write_bytes(contents[:left])
  message = refusal(copy)
  assert re.fullmatch(
    re.escape(f'{path} is damaged or truncated: ') + r'.+; copy it again, or build the dataset '
    r'again\.', message, re.DOTALL
  )  # fmt: skip


def test_a_shard_that_is_not_there_is_named(copy):
  (copy / SHARD).unlink()
  assert refusal(copy).startswith(f'There is no {copy / SHARD}, a shard of the dataset; copy it')


def test_a_shard_of_another_number_of_records_is_named(copy):
  shutil.copyfile(copy / SHARD.replace('00001-', '00000-'), copy / SHARD)
  assert re.match(
    re.escape(f'{copy / SHARD} has ') + r'[23] records instead of [23];', refusal(copy)
  )


@pytest.mark.parametrize('contents', [None, b'', b'PK\x03\x04 and no more', b'x' * 99])
def test_sizes_that_cannot_be_read_are_named(copy, contents):
  (copy / 'sizes.npz').unlink()
  if contents is not None:
    (copy / 'sizes.npz').write_bytes(contents)
  message = refusal(copy, size=16, min_side=17)
  assert message.startswith(f'{copy / "sizes.npz"} is missing or damaged: ')
