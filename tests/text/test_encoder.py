"""A T5 from transformers' folder to embeddings, in the cache and out of it."""

import json
import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from core import weights
from tests.oracles import relative_error
from text import encoder, hashed
from text.cache import cached
from text.convert import convert
from text.encoder import embedder, load, open_encoder, open_t5

RECORDED = pathlib.Path(__file__).parent / 'recorded'
PROMPTS = ['a red circle moving', '', 'A  Blue zebra?', 'circle ' * 30]  # what is recorded
SIZES = dict(tokens=20, width=16)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  """The folder of the recorded T5, converted."""
  folder = tmp_path_factory.mktemp('t5') / 'ours'
  convert(RECORDED / 't5', folder)
  return str(folder)


@pytest.fixture
def opened(source, tmp_path, monkeypatch):
  """Opens a new encoder, as in another process, with a cache; and counts what the network does."""
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


def test_embeddings_that_transformers_made(source):
  known = np.load(RECORDED / 't5.npz')
  text, mask = open_encoder(source=source, **SIZES)(PROMPTS)
  assert text.dtype == np.float32
  assert mask.all()
  assert mask.shape == (4, 20)
  assert relative_error(text, known['embeddings']) < 1e-5
  model, files = open_t5(pathlib.Path(source), 'float32')
  embed = embedder(model, load(model, files, jax.local_devices()[:1]))
  assert relative_error(embed(known['ids'], known['mask']), known['embeddings']) < 1e-5


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_parameters_are_spread_over_devices_and_the_embeddings_are_the_same(
  source, dtype, monkeypatch
):
  monkeypatch.setattr(encoder, 'MIN_SHARDED', 100)
  model, files = open_t5(pathlib.Path(source), dtype)
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
  model, files = open_t5(pathlib.Path(source), 'float32')
  sizes = []
  monkeypatch.setattr(
    type(model),
    'apply',
    lambda self, p, ids, mask: sizes.append(ids.shape) or jnp.ones((16, 4, 16)),
  )
  embed = embedder(model, load(model, files, jax.local_devices()[:1]))
  for b in (1, 16, 17, 40, 0):
    assert embed(np.ones((b, 4), np.int32), np.ones((b, 4), bool)).shape == (b, 4, 16)
  assert sizes == [(16, 4)]


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
    model, files = open_t5(pathlib.Path(source), 'float32')
    embed = embedder(model, load(model, files, jax.local_devices()[:2]))
    assert relative_error(embed(known['ids'], known['mask']), text) < 1e-6
    assert jax.sharding.get_abstract_mesh().shape == {'data': 2, 'fsdp': 4}


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_what_is_in_the_cache_is_not_embedded_again(opened, tmp_path, dtype):
  opened, ran = opened
  first, _ = opened(dtype=dtype)([*PROMPTS, PROMPTS[0], ' A red  CIRCLE moving '])
  assert ran == [4]  # of the same tokens one
  np.testing.assert_array_equal(first[0], first[5])
  files = [p for p in (tmp_path / 'cache').rglob('*') if p.is_file()]
  assert {p.stat().st_size for p in files} == {20 * 16 * (4 if dtype == 'float32' else 2)}
  again, mask = opened(dtype=dtype)(PROMPTS)
  assert ran == [4]
  assert again.dtype == np.float32
  assert mask.all()
  np.testing.assert_array_equal(again, first[:4])
  opened(dtype=dtype)([PROMPTS[2], 'blue', PROMPTS[1]])
  assert ran == [4, 1]


def test_weights_are_not_loaded_until_a_text_is_new(opened, monkeypatch):
  opened, _ = opened
  opened()(PROMPTS)

  def refuse(*_):
    raise AssertionError('loaded')

  monkeypatch.setattr(encoder, 'load', refuse)
  encode = opened()
  encode(PROMPTS)
  with pytest.raises(AssertionError, match='loaded'):
    encode(['blue'])


def test_a_damaged_entry_is_made_again(opened, tmp_path):
  opened, ran = opened
  first, _ = opened()(PROMPTS)
  path, *_ = (p for p in (tmp_path / 'cache').rglob('*') if p.is_file())
  path.write_bytes(path.read_bytes()[:-1])
  np.testing.assert_allclose(opened()(PROMPTS)[0], first, atol=1e-6)
  assert ran == [4, 1]
  opened()(PROMPTS)
  assert ran == [4, 1]
  assert not list((tmp_path / 'cache').rglob('*.incomplete'))


TOKENS = np.load(RECORDED / 't5.npz')['mask'].sum(-1)  # of PROMPTS, the end included


def sizes(folder):
  return sorted(p.stat().st_size for p in folder.rglob('*') if p.is_file())


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_real_tokens_alone_are_stored_where_padding_is_masked(opened, tmp_path, dtype):
  opened, ran = opened
  whole, _ = opened(dtype=dtype, cache='')(PROMPTS)
  text, mask = opened(dtype=dtype, cache='', mask_padding=True)(PROMPTS)
  np.testing.assert_array_equal(mask.sum(-1), TOKENS)
  np.testing.assert_array_equal(text, np.where(mask[..., None], whole, 0))
  # Padding is no constant that could be stored once, which is why entries for IF are whole.
  padding = whole[2][TOKENS[2] :]
  assert len({row.tobytes() for row in padding}) > len(padding) // 2
  for _ in range(2):
    again, of_cache = opened(dtype=dtype, mask_padding=True)([*PROMPTS, PROMPTS[0]])
    np.testing.assert_array_equal(again, text[[0, 1, 2, 3, 0]])
    np.testing.assert_array_equal(of_cache, mask[[0, 1, 2, 3, 0]])
  assert ran == [4, 4, 4]
  width = 16 * (4 if dtype == 'float32' else 2)
  assert sizes(tmp_path / 'cache') == sorted(n * width for n in TOKENS)


def test_entries_with_padding_serve_both_and_others_are_made_again(opened, tmp_path):
  opened, ran = opened
  known = {m: opened(cache='', mask_padding=m)(PROMPTS)[0] for m in (True, False)}
  ran.clear()
  # As all were before padding could be masked.
  np.testing.assert_array_equal(opened(mask_padding=False)(PROMPTS)[0], known[False])
  np.testing.assert_array_equal(opened(mask_padding=True)(PROMPTS)[0], known[True])
  assert ran == [4]
  for path in (tmp_path / 'cache').rglob('*'):
    path.is_file() and path.unlink()
  np.testing.assert_array_equal(opened(mask_padding=True)(PROMPTS)[0], known[True])
  # Three have no padding in their entries; the text of 20 tokens has none at all.
  np.testing.assert_allclose(opened(mask_padding=False)(PROMPTS)[0], known[False], atol=1e-6)
  assert ran == [4, 4, 3]
  assert sizes(tmp_path / 'cache') == [20 * 16 * 4] * 4


@pytest.mark.parametrize('left', [0, 1, 16 * 4, -16 * 4, -1])
def test_entries_of_real_tokens_that_are_cut_are_made_again(opened, tmp_path, left):
  opened, ran = opened
  known, _ = opened(mask_padding=True)(PROMPTS)
  paths = [p for p in (tmp_path / 'cache').rglob('*') if p.is_file() and p.stat().st_size > 64]
  assert len(paths) == 3  # the empty text is of one token
  for path in paths:
    path.write_bytes(path.read_bytes()[:left])
  np.testing.assert_allclose(opened(mask_padding=True)(PROMPTS)[0], known, atol=1e-6)
  assert ran == [4, 3]
  assert sizes(tmp_path / 'cache') == sorted(n * 16 * 4 for n in TOKENS)


def test_writers_at_once_leave_whole_entries(tmp_path):
  """Two kinds of models share a folder, whose every entry both of them can have written last."""
  rng = np.random.default_rng(0)
  ids = np.zeros((32, 6), np.int32)
  mask = np.arange(6) < rng.integers(1, 7, (32, 1))
  ids[mask] = rng.integers(1, 9, mask.sum())
  made = lambda ids, mask: np.repeat(ids[..., None] + 1, 3, -1).astype('float32')
  errors = []

  def work(padding):
    embed = cached(made, tmp_path, b'', 3, 'float32', padding=padding)
    for _ in range(10):
      got, expected = embed(ids, mask), made(ids, mask)
      if not padding:
        expected = expected * mask[..., None]
      if not np.array_equal(got, expected):
        errors.append(padding)

  threads = [threading.Thread(target=work, args=[i % 2 == 0]) for i in range(6)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert not errors
  assert {len(path.name) for path in tmp_path.rglob('*') if path.is_file()} == {30}
  assert {size // 12 for size in sizes(tmp_path)} <= {1, 2, 3, 4, 5, 6}


def test_other_weights_dtypes_and_lengths_have_entries_of_their_own(opened, source, tmp_path):
  opened, ran = opened
  first, _ = opened()(PROMPTS)
  opened(dtype='bfloat16')(PROMPTS)
  opened(tokens=12)(PROMPTS)
  assert ran == [4, 4, 4]
  other = tmp_path / 'other'
  other.mkdir()
  for path in pathlib.Path(source).iterdir():
    (other / path.name).write_bytes(path.read_bytes())
  opened(source=str(other))(PROMPTS)
  assert ran == [4, 4, 4]  # another place is no other encoder
  tensors = {name: part.read() for name, part in weights.find(other).items()}
  tensors['norm_out/scale'] = 2 * tensors['norm_out/scale']
  weights.write(other, 'model', tensors.items())
  np.testing.assert_allclose(opened(source=str(other))(PROMPTS)[0], 2 * first, rtol=1e-4, atol=1e-6)
  assert ran == [4, 4, 4, 4]


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
      r'cache=.*test_encoder\.py is a file; it is a folder, which need not exist\.',
    ),
    ({'tokens': 0}, r'Got tokens=0; it must be at least 1\.'),
    (
      {'source': 'hasht'},
      r'source=hasht is neither hashed nor a folder that text\.convert wrote\.',
    ),
    ({'source': str(RECORDED / 't5')}, r'.*config\.json is not one that text\.convert wrote: .*'),
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
  with pytest.raises(ValueError, match=r'model\.safetensors is damaged or cut short'):
    open_encoder(source=str(tmp_path), **SIZES)


def test_no_source_at_all_is_told_what_there_is():
  with pytest.raises(
    ValueError, match='No source of texts is given; allowed are hashed and a folder'
  ):
    open_encoder(source='', **SIZES)
