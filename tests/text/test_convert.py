"""The converter; test_encoder.py and tests/parity compare the outputs of converted models."""

import json
import pathlib
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.text import unigram
from text.convert import convert
from text.tokenizer import find

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RECORDED = pathlib.Path(__file__).parent / 'recorded'
QUERY = 'encoder.block.0.layer.0.SelfAttention.q.weight'


@pytest.fixture
def source(tmp_path):
  """A copy of the recorded T5, to be damaged."""
  return pathlib.Path(shutil.copytree(RECORDED / 't5', tmp_path / 'pipeline' / 'text_encoder'))


def change(source, **tensors):
  """Saves the weights with changed tensors; None removes one, and `__` stands for a point."""
  path = source / 'model.safetensors'
  changed = load_file(path) | {name.replace('__', '.'): x for name, x in tensors.items()}
  save_file({name: x for name, x in changed.items() if x is not None}, path, {'format': 'pt'})


def configure(source, **changed):
  path = source / 'config.json'
  config = json.loads(path.read_text()) | changed
  path.write_text(json.dumps({key: x for key, x in config.items() if x is not None}))


def test_names_and_shapes_and_numbers(source, tmp_path):
  convert(source, tmp_path / 'out')
  theirs, ours = (load_file(f / 'model.safetensors') for f in (source, tmp_path / 'out'))
  assert len(theirs) == len(ours) == 21
  np.testing.assert_array_equal(ours['layer0/query/kernel'], theirs[QUERY].T)
  np.testing.assert_array_equal(ours['embed/embedding'], theirs['shared.weight'])
  assert sorted(x.sum() for x in ours.values()) == pytest.approx(
    sorted(x.sum() for x in theirs.values()), rel=1e-4
  )
  assert json.loads((tmp_path / 'out' / 'config.json').read_text()) == {
    'vocabulary': 64, 'width': 16, 'heads': 3, 'head_features': 8, 'hidden': 24, 'layers': 2,
    'buckets': 12, 'epsilon': 1e-6, 'max_distance': 20,
  }  # fmt: skip
  assert find(tmp_path / 'out').read_bytes() == (source / 'tokenizer.json').read_bytes()


@pytest.mark.parametrize('dtype', [np.float16, jnp.bfloat16])
def test_weights_keep_their_dtype(source, tmp_path, dtype):
  theirs = {name: x.astype(dtype) for name, x in load_file(source / 'model.safetensors').items()}
  save_file(theirs, source / 'model.safetensors')
  convert(source, tmp_path / 'out')
  ours = load_file(tmp_path / 'out' / 'model.safetensors')
  assert {x.dtype for x in ours.values()} == {np.dtype(dtype)}
  np.testing.assert_array_equal(ours['layer0/query/kernel'], theirs[QUERY].T)


def test_the_decoder_and_a_second_embedding_are_left_out(source, tmp_path):
  embedding = load_file(source / 'model.safetensors')['shared.weight']
  more = {'decoder__x__weight': np.ones(3), 'lm_head__weight': np.ones((64, 16))}
  more = {name: x.astype(np.float32) for name, x in more.items()}
  change(source, encoder__embed_tokens__weight=embedding, **more)
  convert(source, tmp_path / 'out')
  assert len(load_file(tmp_path / 'out' / 'model.safetensors')) == 21
  change(source, shared__weight=None)  # it has one of the two names at least
  convert(source, tmp_path / 'out2')
  made = load_file(tmp_path / 'out2' / 'model.safetensors')
  np.testing.assert_array_equal(made['embed/embedding'], embedding)


def test_a_file_of_2020_that_does_not_say_the_distance(source, tmp_path):
  configure(source, relative_attention_max_distance=None, is_gated_act=None, dense_act_fn=None)
  assert convert(source, tmp_path / 'out').max_distance == 128


def test_the_tokenizer_is_with_the_weights_or_where_it_is_said_or_beside(source, tmp_path):
  (source / 'tokenizer.json').unlink()
  with pytest.raises(ValueError, match=r'There is no spiece\.model or tokenizer\.json in .* or '):
    convert(source, tmp_path / 'out')
  for folder in (source.parent / 'tokenizer', tmp_path / 'elsewhere'):
    folder.mkdir()
    unigram.write(folder / 'tokenizer.json', version=folder.name)
  version = lambda out: json.loads(find(out).read_text('utf-8'))['version']
  convert(source, tmp_path / 'out')
  assert version(tmp_path / 'out') == 'tokenizer'
  convert(source, tmp_path / 'out2', tmp_path / 'elsewhere')
  assert version(tmp_path / 'out2') == 'elsewhere'
  convert(source, tmp_path / 'out3', tokenizer=tmp_path / 'elsewhere')


@pytest.mark.parametrize(
  ('config', 'tensors', 'message'),
  [
    ({'feed_forward_proj': 'relu'}, {}, r'config\.json has feed_forward_proj relu, as T5 v1\.0'),
    ({'feed_forward_proj': None}, {}, r'config\.json has feed_forward_proj relu, as T5 v1\.0'),
    ({'model_type': 'llama'}, {}, r'config\.json has model_type llama; allowed are clip_text_m'),
    ({'d_kv': None}, {}, r'config\.json lacks d_kv\.$'),
    ({'num_layers': 3}, {}, r'text_encoder lacks encoder\.block\.2\.layer\.0\..*: it is no'),
    ({'num_layers': 1}, {}, r'text_encoder also has encoder\.block\.1\.layer\.0\..*: it is not'),
    ({'d_ff': 20}, {}, r'wi_0\.weight in .* has shape \(24, 16\); its config\.json needs \(20'),
    ({'vocab_size': 30}, {'shared__weight': np.ones((30, 16), 'f4')}, r'has 37 tokens, and the m'),
    ({}, {'shared__weight': None}, r'text_encoder lacks shared\.weight: it is not an'),
    ({}, {'more__weight': np.ones(2, np.float32)}, r'text_encoder also has more\.weight: it is no'),
  ],
)  # fmt: skip
def test_what_is_no_t5_of_v11_is_refused_and_nothing_is_left(
  source, tmp_path, config, tensors, message
):
  configure(source, **config)
  change(source, **tensors)
  with pytest.raises(ValueError, match=message) as error:
    convert(source, tmp_path / 'out')
  assert '\n' not in str(error.value)
  assert [p.name for p in tmp_path.iterdir()] == ['pipeline']


def test_folders_that_are_incomplete_are_refused(source, tmp_path):
  path = source / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-8])
  with pytest.raises(ValueError, match=r'model\.safetensors is damaged or truncated'):
    convert(source, tmp_path / 'out')
  path.rename(source / 'pytorch_model.bin')
  with pytest.raises(ValueError, match=r'It has pytorch_model\.bin, but pickles are not read'):
    convert(source, tmp_path / 'out')
  for damaged in (b'{"d_model"', b'["d_model"]', b'\xff'):
    (source / 'config.json').write_bytes(damaged)
    with pytest.raises(ValueError, match=r'config\.json is not (JSON: .+|a JSON object\.)$'):
      convert(source, tmp_path / 'out')
  with pytest.raises(ValueError, match=r'There is no file .*none/config\.json\.$'):
    convert(tmp_path / 'none', tmp_path / 'out')
  assert [p.name for p in tmp_path.iterdir()] == ['pipeline']


def test_the_command(source, tmp_path):
  run = [sys.executable, '-m', 'text.convert', f'--from={source}', f'--out={tmp_path / "out"}']
  done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
  assert done.stdout == f'{tmp_path / "out"}: 2 layers, embeddings of 16\n', done.stderr
  done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 2
  assert done.stderr == f'error: {tmp_path / "out"} exists already; --out is a new folder.\n'
