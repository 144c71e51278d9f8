"""A T5, from the folder of transformers to embeddings, with the cache and without it."""

import json
import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from tests.oracles import relative_error
from tests.text.conftest import RECORDED, SIZES
from text import encoder, hashed
from text.encoder import embedder, load, open_encoder, open_network

PROMPTS = ['a red circle moving', '', 'A  Blue zebra?', 'circle ' * 30]  # what is recorded


def test_embeddings_that_transformers_made(source):
  known = np.load(RECORDED / 't5.npz')
  text, mask = open_encoder(source=source, **SIZES)(PROMPTS)
  assert text.dtype == np.float32
  assert mask.all()
  assert mask.shape == (4, 20)
  assert relative_error(text, known['embeddings']) < 1e-5
  model, files = open_network(pathlib.Path(source), 'float32')
  embed = embedder(model, load(model, files, jax.local_devices()[:1]))
  assert relative_error(embed(known['ids'], known['mask']), known['embeddings']) < 1e-5


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_parameters_are_spread_over_devices_and_the_embeddings_are_the_same(
  source, dtype, monkeypatch
):
  monkeypatch.setattr(encoder, 'MIN_SHARDED', 100)
  model, files = open_network(pathlib.Path(source), dtype)
  whole, spread = (load(model, files, jax.local_devices()[:n]) for n in (1, 8))
  kernel = spread['layer0']['wide']['kernel']  # 16 24
  assert kernel.dtype == dtype
  assert {shard.data.shape for shard in kernel.addressable_shards} == {(16, 3)}
  assert spread['layer0']['narrow']['kernel'].addressable_shards[0].data.shape == (3, 16)
  assert spread['embed']['embedding'].addressable_shards[0].data.shape == (8, 16)
  assert spread['layer0']['norm_dense']['scale'].sharding.is_fully_replicated
  assert {p['scale'].dtype for p in (spread['norm_out'], spread['layer1']['norm_dense'])} == {
    np.dtype('float32')
  }
  jax.tree.map(np.testing.assert_array_equal, whole, spread)
  known = np.load(RECORDED / 't5.npz')
  one, eight = (embedder(model, p)(known['ids'], known['mask']) for p in (whole, spread))
  assert one.dtype == eight.dtype == dtype
  assert relative_error(eight, one) < (1e-6 if dtype == 'float32' else 1e-2)
  assert relative_error(one, known['embeddings']) < (1e-5 if dtype == 'float32' else 2e-2)


def test_any_number_of_texts_is_one_compilation(source, monkeypatch):
  model, files = open_network(pathlib.Path(source), 'float32')
  sizes = []
  monkeypatch.setattr(
    type(model),
    'apply',
    lambda self, p, ids, mask: sizes.append(ids.shape) or jnp.ones((1, 4, 16)),
  )
  embed = embedder(model, load(model, files, jax.local_devices()[:1]))
  for b in (1, 16, 17, 40, 0):
    assert embed(np.ones((b, 4), np.int32), np.ones((b, 4), bool)).shape == (b, 4, 16)
  assert sizes == [(1, 4)]


def test_each_text_of_many_has_its_own_embedding(source):
  encode = open_encoder(source=source, **SIZES)
  texts = [f'{"abcdefghij"[i // 10]} {"abcdefghij"[i % 10]}' for i in range(37)]
  text, _ = encode(texts)
  assert relative_error(text[[20]], encode(texts[20:21])[0]) < 1e-6
  assert len({row.tobytes() for row in text}) == 37
  assert encode([])[0].shape == (0, 20, 16)


@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit])
def test_it_runs_under_the_mesh_of_training(source, kind, monkeypatch):
  monkeypatch.setattr(encoder, 'MIN_SHARDED', 100)
  text, _ = open_encoder(source=source, **SIZES)(PROMPTS)
  known = np.load(RECORDED / 't5.npz')
  with jax.set_mesh(jax.make_mesh((2, 4), ('data', 'fsdp'), axis_types=(kind,) * 2)):
    model, files = open_network(pathlib.Path(source), 'float32')
    embed = embedder(model, load(model, files, jax.local_devices()[:2]))
    assert relative_error(embed(known['ids'], known['mask']), text) < 1e-6
    assert jax.sharding.get_abstract_mesh().shape == {'data': 2, 'fsdp': 4}


def test_the_same_arguments_give_the_same_encoder(source):
  encode = open_encoder(source=source, tokens=20, width=16)
  assert encode is open_encoder(width=16, tokens=20, source=source, dtype='float32')
  got = []
  threads = [threading.Thread(target=lambda: got.append(encode(PROMPTS)[0])) for _ in range(3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for text in got:
    np.testing.assert_array_equal(text, got[0])
  assert len(got) == 3


def test_hashed_words():
  for got, known in zip(
    open_encoder(source='hashed', tokens=6, width=8)(PROMPTS), hashed.encoder(6, 8)(PROMPTS)
  ):
    np.testing.assert_array_equal(got, known)


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    ({'width': 8}, r'Got width=8; the embeddings of .*ours have 16\.'),
    ({'dtype': 'float16'}, r'Got dtype=float16; allowed are bfloat16, float32\.'),
    (
      {'cache': __file__},
      r'Got cache=.*test_encoder\.py, which is a file; allowed is a folder, which may be new\.',
    ),
    ({'tokens': 0}, r'Got tokens=0; it must be at least 1\.'),
    (
      {'source': 'hasht'},
      r'source=hasht is neither hashed nor a folder that text\.convert wrote\.',
    ),
    ({'source': str(RECORDED / 't5')}, r'.*config\.json was not written by text\.convert: .*'),
  ],
)
def test_what_cannot_be_opened_is_refused(source, wrong, message):
  with pytest.raises(ValueError, match=f'^{message}$'):
    open_encoder(**{'source': source, **SIZES, **wrong})


def test_a_folder_that_is_not_whole_is_refused(source, tmp_path):
  for path in pathlib.Path(source).iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  config = json.loads((tmp_path / 'config.json').read_text())
  (tmp_path / 'config.json').write_text(json.dumps(config | {'layers': 1}))
  with pytest.raises(ValueError, match=r'do not fit its config\.json: layer1/gate/kernel, .*\.$'):
    open_encoder(source=str(tmp_path), **SIZES)
  (tmp_path / 'config.json').write_text(json.dumps(config))
  (tmp_path / 'tokenizer.json').unlink()
  with pytest.raises(ValueError, match=r'There is no spiece\.model or tokenizer\.json in '):
    open_encoder(source=str(tmp_path), **SIZES)
  path = tmp_path / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-8])
  with pytest.raises(ValueError, match=r'model\.safetensors is damaged or truncated'):
    open_encoder(source=str(tmp_path), **SIZES)


def test_no_source_at_all_is_an_error_with_the_choices():
  with pytest.raises(ValueError, match=r'text\.source is empty; allowed are hashed and a folder'):
    open_encoder(source='', **SIZES)
