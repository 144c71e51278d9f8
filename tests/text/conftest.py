"""A recorded T5, converted, and encoders of it."""

import pathlib

import pytest

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
