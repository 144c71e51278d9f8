"""The text tower of CLIP: its states, its conversion, and the encoder of its folder."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.params import nest
from tests.evaluation.features import drawn
from tests.oracles import relative_error
from tests.text import clip_tower
from text import clip_tokenizer, embeddings
from text.clip import CLIPText, shapes
from text.clip_tokenizer import END
from text.convert import convert
from text.convert_clip import torch_names
from text.encoder import open_encoder

RECORDED = pathlib.Path(__file__).parent / 'recorded'
L = CLIPText(768, 12, 12)
H = CLIPText(1024, 23, 16, activation='gelu')  # without the last layer, as of Stable Diffusion 2.x


@pytest.mark.parametrize('activation', ['gelu', 'quick_gelu'])
def test_states_are_those_of_transformers(activation):
  theirs, known = drawn.recorded(RECORDED / f'clip_{activation}.npz')
  tensors, model = drawn.weights(theirs), CLIPText(24, 2, 3, 50, activation)
  turned = lambda name, x: x.T if name.endswith('/kernel') else x
  params = {
    name: np.concatenate([turned(name, tensors[part]) for part in torch_names(name)], -1)
    for name in shapes(model)
  }
  states = jax.jit(model.apply)({'params': nest(params)}, jnp.asarray(drawn.tokens(50)))
  assert relative_error(states, known) <= 1e-5


@pytest.mark.parametrize(('model', 'size'), [(L, 123_060_480), (H, 340_387_840)])
def test_the_sizes_of_the_towers_of_stable_diffusion(model, size):
  assert sum(map(math.prod, shapes(model).values())) == size


@pytest.fixture
def source(tmp_path, monkeypatch):
  """A pipeline with a tower of random weights, and a vocabulary with one pair that texts have."""
  monkeypatch.setattr(clip_tokenizer, 'SHA256', clip_tower.SHA256)
  return clip_tower.write(tmp_path / 'pipeline')


def pad(source, file, token):
  (source.parent / 'tokenizer' / file).write_text(json.dumps({'pad_token': token}))


def test_an_encoder_attends_to_all_tokens_and_pads_as_its_pipeline(source, tmp_path):
  """Stable Diffusion 2.x has the true token in the file that transformers prefers."""
  convert(source, tmp_path / 'one')
  pad(source, 'tokenizer_config.json', '<|endoftext|>')
  pad(source, 'special_tokens_map.json', {'content': '!'})
  convert(source, tmp_path / 'two')
  options = dict(tokens=77, width=8)
  texts = ['ab ab', '', 'ab ' * 100]
  (one, mask), (two, _) = (
    open_encoder(source=str(tmp_path / n), **options)(texts) for n in ('one', 'two')
  )
  assert (one.shape, one.dtype, mask.all()) == ((3, 77, 8), np.float32, True)
  np.testing.assert_allclose(one[0, :4], two[0, :4], atol=1e-6)  # a begin, two words, an end
  assert relative_error(one[:2, 4:], two[:2, 4:]) > 0.1
  np.testing.assert_allclose(one[2], two[2], atol=1e-6)  # no padding
  text, mask = open_encoder(source=str(tmp_path / 'two'), mask_padding=True, **options)(texts)
  assert mask.sum(1).tolist() == [4, 2, 77]
  np.testing.assert_allclose(text[mask], two[mask], atol=1e-6)


def test_qkv_is_of_three_tensors_and_names_may_have_no_prefix(source, tmp_path):
  convert(source, tmp_path / 'one')
  theirs = load_file(source / 'model.safetensors')
  query = theirs['text_model.encoder.layers.0.self_attn.q_proj.weight']
  ours = load_file(tmp_path / 'one' / 'model.safetensors')
  np.testing.assert_array_equal(ours['layer0/qkv/kernel'][:, :8], query.T)
  short = {name.removeprefix('text_model.'): x for name, x in theirs.items()}
  save_file(short, source / 'model.safetensors')
  convert(source, tmp_path / 'two')
  for name, x in load_file(tmp_path / 'two' / 'model.safetensors').items():
    np.testing.assert_array_equal(x, ours[name], err_msg=name)


def test_captions_can_be_embedded_by_it(source, tmp_path):
  convert(source, tmp_path / 'ours')
  settings = embeddings.encoder_settings(str(tmp_path / 'ours'), tokens=77, dtype='float32')
  assert (settings.width, settings.tokens) == (8, 77)
  assert settings.tokenizer.startswith('sha256:')


def test_a_tokenizer_json_is_the_same_vocabulary(source, tmp_path):
  folder = source.parent / 'tokenizer'
  known = clip_tokenizer.open_tokenizer(folder, 9)(['ab c'])
  (folder / 'merges.txt').unlink()
  for merges in (clip_tower.PAIRS, [' '.join(pair) for pair in clip_tower.PAIRS]):
    (folder / 'tokenizer.json').write_text(json.dumps({'model': {'merges': merges}}))
    np.testing.assert_array_equal(clip_tokenizer.open_tokenizer(folder, 9)(['ab c']), known)
  assert known[0, -1] == END
  convert(source, tmp_path / 'ours')
  open_encoder(source=str(tmp_path / 'ours'), tokens=9, width=8)
  (folder / 'tokenizer.json').write_text('{"model": 3}')
  with pytest.raises(ValueError, match=r'tokenizer\.json is not of CLIP: it has no model with mer'):
    clip_tokenizer.open_tokenizer(folder)


@pytest.mark.parametrize(
  ('config', 'pad_token', 'message'),
  [
    ({'hidden_act': 'relu'}, '!', r'config\.json has hidden_act relu; allowed are gelu, quick_ge'),
    ({'max_position_embeddings': 64}, '!', r'has max_position_embeddings 64; allowed is 77, as of'),
    ({'intermediate_size': 16}, '!', r'config\.json has intermediate_size 16; allowed is 32, as '),
    ({'num_hidden_layers': 2}, '!', r'text_encoder lacks encoder\.layers\.1\..*: it is not the te'),
    ({'num_hidden_layers': 0}, '!', r'text_encoder also has encoder\.layers\.0\..*: it is not the'),
    (
      {'hidden_size': 16, 'intermediate_size': 64},
      '!',
      r'has shape \(.*\); its config\.json needs \(',
    ),
    ({}, '<pad>', r'special_tokens_map\.json has pad_token <pad>; allowed are <\|endoftext\|>, !'),
  ],
)
def test_other_towers_are_refused_and_nothing_is_left(source, tmp_path, config, pad_token, message):
  (source / 'config.json').write_text(json.dumps(clip_tower.CONFIG | config))
  pad(source, 'special_tokens_map.json', pad_token)
  with pytest.raises(ValueError, match=message) as error:
    convert(source, tmp_path / 'out')
  assert '\n' not in str(error.value)
  assert [p.name for p in tmp_path.iterdir()] == ['pipeline']


def test_more_tokens_than_a_clip_has_are_refused(source, tmp_path):
  convert(source, tmp_path / 'ours')
  for tokens in (1, 78):
    with pytest.raises(ValueError, match=rf'^Got tokens={tokens}; a CLIP allows 2 to 77\.$'):
      open_encoder(source=str(tmp_path / 'ours'), tokens=tokens, width=8)
