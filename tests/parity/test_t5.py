"""T5 against that of transformers, from its saved folder to the embeddings."""

import os
import pathlib

import jax
import numpy as np
import pytest
import torch
from transformers import (
  MT5Config,
  MT5EncoderModel,
  T5Config,
  T5EncoderModel,
  T5ForConditionalGeneration,
)
from transformers.models.t5.modeling_t5 import T5Attention

from tests.oracles import relative_error
from tests.parity.record_t5 import answers, perturbed, tokens
from tests.text import unigram
from text.convert import convert
from text.encoder import embedder, load, open_encoder, open_network
from text.t5 import bucket

SIZES = {
  'small': {
    'vocab_size': 64, 'd_model': 32, 'num_heads': 4, 'd_kv': 8, 'd_ff': 48, 'num_layers': 2,
  },
  'of uneven heads': {
    'vocab_size': 99, 'd_model': 40, 'num_heads': 3, 'd_kv': 16, 'd_ff': 56, 'num_layers': 5,
    'relative_attention_num_buckets': 20, 'relative_attention_max_distance': 50,
  },
  'deep, and spread': {
    'vocab_size': 640, 'd_model': 256, 'num_heads': 8, 'd_kv': 64, 'd_ff': 512, 'num_layers': 12,
    'relative_attention_num_buckets': 64, 'relative_attention_max_distance': 33,
  },
}  # fmt: skip
TORCH = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


def model_of(sizes, kind=T5EncoderModel, config=T5Config):
  torch.manual_seed(0)
  return perturbed(kind(config(**sizes, feed_forward_proj='gated-gelu')))


def inputs(vocabulary, n, b=5, seed=0):
  """Tokens, and masks of texts of different lengths, one of which fills all places."""
  rng = np.random.default_rng(seed)
  lengths = [n, *rng.integers(1, n + 1, b - 1)]
  mask = np.arange(n) < np.asarray(lengths)[:, None]
  return rng.integers(0, vocabulary, (b, n), dtype=np.int32) * mask, mask


def ours(model, tmp_path, dtype='float32', **saved):
  """`embed(ids, mask)` of the model, from the folder in which transformers saves it."""
  model.save_pretrained(tmp_path / 'theirs', **saved)
  unigram.write(tmp_path / 'theirs' / 'tokenizer.json')
  convert(tmp_path / 'theirs', tmp_path / 'ours')
  net, files = open_network(tmp_path / 'ours', dtype)
  return embedder(net, load(net, files, jax.local_devices()))


def compare(embed, model, tolerance, lengths=(77, 1, 130)):
  errors = []
  for n in lengths:
    ids, mask = inputs(model.config.vocab_size, n)
    errors.append(relative_error(embed(ids, mask), answers(model, ids, mask)))
  print(f'relative errors at lengths {lengths}: ' + ', '.join(f'{e:.1e}' for e in errors))
  assert max(errors) <= tolerance


@pytest.mark.parametrize('name', SIZES)
def test_embeddings(name, tmp_path):
  model = model_of(SIZES[name])
  compare(ours(model, tmp_path), model, 1e-5)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_weights_of_two_bytes(dtype, tmp_path):
  model = model_of(SIZES['of uneven heads']).to(TORCH[dtype])
  embed = ours(model, tmp_path)
  compare(embed, model.float(), 1e-5)


def test_many_files(tmp_path):
  model = model_of(SIZES['of uneven heads'])
  embed = ours(model, tmp_path, max_shard_size='20KB')
  assert len(list((tmp_path / 'theirs').glob('*.safetensors'))) > 5
  compare(embed, model, 1e-5)


def test_products_in_bfloat16(tmp_path):
  model = model_of(SIZES['deep, and spread'])
  compare(ours(model, tmp_path, dtype='bfloat16'), model, 2e-2)


def test_a_whole_t5_has_its_decoder_left_out(tmp_path):
  model = model_of(SIZES['small'], T5ForConditionalGeneration)
  embed = ours(model, tmp_path)
  compare(embed, model.encoder, 1e-5)


def test_an_mt5(tmp_path):
  model = model_of(SIZES['small'], MT5EncoderModel, MT5Config)
  compare(ours(model, tmp_path), model, 1e-5)


@pytest.mark.parametrize(('buckets', 'most'), [(32, 128), (20, 50), (64, 33), (8, 20), (32, 1000)])
def test_buckets(buckets, most):
  distance = np.arange(-3000, 3001)
  known = T5Attention._relative_position_bucket(torch.from_numpy(distance), True, buckets, most)
  np.testing.assert_array_equal(bucket(distance, buckets, most), known)


@pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
def test_from_a_prompt_to_embeddings(tmp_path):
  """A pipeline's folder, with the tokenizer beside, against `IFPipeline.encode_prompt`."""
  model = model_of(SIZES['deep, and spread'] | {'vocab_size': 32128})
  model.save_pretrained(tmp_path / 'text_encoder')
  path = tmp_path / 'tokenizer' / 'tokenizer.json'
  path.parent.mkdir()
  path.write_bytes(
    pathlib.Path(os.environ['LUMIERE_DATA'], 'tokenizers', 't5-small_tokenizer.json').read_bytes()
  )
  convert(tmp_path / 'text_encoder', tmp_path / 'ours')
  prompts = ['A Panda  playing a guitar, 4k ', '', 'word ' * 100]
  text, mask = open_encoder(source=str(tmp_path / 'ours'), tokens=77, width=256)(prompts)
  assert mask.all()
  assert relative_error(text, answers(model, *tokens(path, prompts, 77))) <= 1e-5
