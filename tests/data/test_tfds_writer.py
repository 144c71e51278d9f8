"""Records are written in their order, with the bits that TFDS writes, and not from memory."""

import tracemalloc

import numpy as np
from tensorflow_datasets.core import shuffle

from data import dataset, decode, tfds_writer


def written(folder, out, sizes):
  """The folder of a dataset of records of so many bytes, which are no videos."""
  folder.mkdir(exist_ok=True)
  clips = []
  for number, size in enumerate(sizes):
    (folder / f'{number}.mkv').write_bytes(np.random.default_rng(number).bytes(size))
    facts = decode.Facts(8, 1.0, 16 + number, 16, None)
    clips.append(dataset.Clip(f'{number}.mkv', 'a film', ('train', 'test')[number % 2], facts))
  out.mkdir()
  dataset.write(folder, clips, out, shards=2)
  return out


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_records_are_those_that_tfds_writes_itself(tmp_path, monkeypatch):
  sizes = (0, 1, 1000, 5, 300, 70_000, 17)
  ours = written(tmp_path / 'videos', tmp_path / 'ours', sizes)
  monkeypatch.setattr(tfds_writer, '_InOrder', shuffle.Shuffler)
  theirs = written(tmp_path / 'videos', tmp_path / 'theirs', sizes)
  assert contents(ours) == contents(theirs)


def test_records_are_not_in_memory_together(tmp_path):
  tracemalloc.start()
  written(tmp_path / 'videos', tmp_path / 'out', [2**20] * 12)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 8 * 2**20
