"""A recorded T5, converted, encoders of it, and datasets whose captions it embeds."""

import pathlib

import numpy as np
import pytest

from data import dataset, decode
from tests.data.videos import encoded, numbered
from text import encoder
from text.convert import convert
from text.encoder import embedder, open_encoder

RECORDED = pathlib.Path(__file__).parent / 'recorded'
SIZES = dict(tokens=20, width=16)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """The folder of the recorded T5, converted."""
  folder = tmp_path_factory.mktemp('t5') / 'ours'
  convert(RECORDED / 't5', folder)
  return str(folder)


@pytest.fixture
def opened(source, tmp_path, monkeypatch):
  """Opens a new encoder with a cache, as in a new process, and counts calls of the network."""
  ran = []

  def counting(model, params):
    embed = embedder(model, params)
    return lambda ids, mask: ran.append(len(ids)) or embed(ids, mask)

  monkeypatch.setattr(encoder, 'embedder', counting)

  def opened(source=source, cache=str(tmp_path / 'cache'), **kwargs):
    encoder._opened.cache_clear()
    return open_encoder(source=source, cache=cache, **SIZES | kwargs)

  yield opened, ran
  encoder._opened.cache_clear()


CAPTIONS = ['a red circle', 'blue', 'a circle moving', 'Red', 'moving ' * 30, 'a b c', 'a "b"\nc']


@pytest.fixture
def dataset_of(tmp_path):
  """Writes a dataset of one film with these captions, of which every third is held out."""
  contents = encoded(numbered(4), np.arange(4) * 100)
  (tmp_path / 'a.mkv').write_bytes(contents)
  facts = decode.probe(contents)

  def dataset_of(captions=CAPTIONS, name='set'):
    splits = ['validation' if i % 3 == 2 else 'train' for i in range(len(captions))]
    clips = [dataset.Clip('a.mkv', text, split, facts) for text, split in zip(captions, splits)]
    dataset.write(tmp_path, clips, tmp_path / name, shards=2)
    return tmp_path / name

  return dataset_of
