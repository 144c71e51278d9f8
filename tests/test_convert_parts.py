"""The autoencoder and the text encoder of a pipeline of Stable Diffusion, into a workdir."""

import pathlib
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from autoencoder.stored import open_autoencoder
from convert import convert_parts
from tests.evaluation.features import drawn
from tests.text import clip_tower
from text import clip_tokenizer
from text.encoder import open_encoder

RECORDED = pathlib.Path(__file__).parent / 'autoencoder' / 'recorded'


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
  monkeypatch.setattr(clip_tokenizer, 'SHA256', clip_tower.SHA256)
  folder = tmp_path / 'pipeline'
  clip_tower.write(folder)
  (folder / 'vae').mkdir()
  shutil.copyfile(RECORDED / 'config.json', folder / 'vae' / 'config.json')
  shapes, _ = drawn.recorded(RECORDED / 'autoencoder.npz')
  save_file(drawn.weights(shapes), folder / 'vae' / 'diffusion_pytorch_model.safetensors')
  return folder


def test_both_parts_of_a_workdir_can_be_opened(pipeline, tmp_path):
  autoencoder, text = convert_parts(pipeline, tmp_path / 'run')
  opened, _ = open_autoencoder(tmp_path / 'run' / 'autoencoder')
  assert opened == autoencoder
  encode = open_encoder(source=str(tmp_path / 'run' / 'text'), tokens=77, width=text.width)
  embeddings, mask = encode(['ab'])
  assert (embeddings.shape, mask.all()) == ((1, 77, 8), True)
  assert np.isfinite(embeddings).all()


def test_a_pipeline_without_one_is_refused(pipeline, tmp_path):
  shutil.rmtree(pipeline / 'vae')
  with pytest.raises(ValueError, match=r'^There is no file .*vae/config\.json\.$'):
    convert_parts(pipeline, tmp_path / 'run')


def test_a_pipeline_with_a_t5_is_refused(pipeline, tmp_path):
  shutil.rmtree(pipeline / 'text_encoder')
  t5 = pathlib.Path(__file__).parent / 'text' / 'recorded' / 't5'
  shutil.copytree(t5, pipeline / 'text_encoder')
  shutil.copyfile(t5 / 'tokenizer.json', pipeline / 'tokenizer' / 'tokenizer.json')
  with pytest.raises(ValueError, match=r'text_encoder is a T5; that of Stable Diffusion is a CL'):
    convert_parts(pipeline, tmp_path / 'run')
