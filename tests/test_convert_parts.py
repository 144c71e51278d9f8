"""A whole pipeline of Stable Diffusion, into a workdir."""

import pathlib
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from autoencoder.stored import open_autoencoder
from convert import from_diffusers
from tests.evaluation.features import drawn
from tests.text import clip_tower
from text import clip_tokenizer
from text.encoder import open_encoder
from training import checkpoint

TESTS = pathlib.Path(__file__).parent
RECORDED = TESTS / 'autoencoder' / 'recorded'
UNET = TESTS / 'stunet' / 'recorded' / 'latent' / 'sd_1'


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
  monkeypatch.setattr(clip_tokenizer, 'SHA256', clip_tower.SHA256)
  folder = tmp_path / 'pipeline'
  clip_tower.write(folder)
  (folder / 'vae').mkdir()
  shutil.copyfile(RECORDED / 'config.json', folder / 'vae' / 'config.json')
  shapes, _ = drawn.recorded(RECORDED / 'autoencoder.npz')
  save_file(drawn.weights(shapes), folder / 'vae' / 'diffusion_pytorch_model.safetensors')
  shutil.copytree(UNET, folder / 'unet')
  (folder / 'model_index.json').write_text('{}')
  return folder


def test_a_pipeline_becomes_a_workdir_with_all_its_parts(pipeline, tmp_path):
  from_diffusers(pipeline, tmp_path / 'run')
  config, _, _ = checkpoint.load(tmp_path / 'run')
  assert config.schedule.schedule == 'scaled_linear'
  autoencoder, _ = open_autoencoder(tmp_path / 'run' / 'autoencoder')
  assert autoencoder.latent_channels == config.model.out_channels
  encode = open_encoder(source=config.text.source, tokens=config.text.tokens, width=8)
  embeddings, mask = encode(['ab'])
  assert (embeddings.shape, mask.all()) == ((1, 77, 8), True)
  assert np.isfinite(embeddings).all()


def test_a_pipeline_without_an_autoencoder_is_refused(pipeline, tmp_path):
  shutil.rmtree(pipeline / 'vae')
  with pytest.raises(ValueError, match=r'^There is no file .*vae/config\.json\.$'):
    from_diffusers(pipeline, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_pipeline_with_a_t5_is_refused(pipeline, tmp_path):
  shutil.rmtree(pipeline / 'text_encoder')
  t5 = pathlib.Path(__file__).parent / 'text' / 'recorded' / 't5'
  shutil.copytree(t5, pipeline / 'text_encoder')
  shutil.copyfile(t5 / 'tokenizer.json', pipeline / 'tokenizer' / 'tokenizer.json')
  with pytest.raises(ValueError, match=r'is a T5; the text encoder of this U-Net is a CLIP\.$'):
    from_diffusers(pipeline, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
