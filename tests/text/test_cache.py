"""What a cache of embeddings stores, and when it replaces a call of the network."""

import pathlib
import threading

import numpy as np
import pytest

from core import weights
from tests.text.conftest import RECORDED
from text import encoder
from text.cache import cached

PROMPTS = ['a red circle moving', '', 'A  Blue zebra?', 'circle ' * 30]  # what is recorded


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_what_is_in_the_cache_is_not_embedded_again(opened, tmp_path, dtype):
  opened, ran = opened
  first, _ = opened(dtype=dtype)([*PROMPTS, PROMPTS[0], ' A red  CIRCLE moving '])
  assert ran == [4]  # equal tokens are computed once
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
  # Embeddings of padding differ, so entries for IF contain all tokens.
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
  assert ran == [4, 4, 4]  # a copy in another folder is the same encoder
  tensors = {name: part.read() for name, part in weights.find(other).items()}
  tensors['norm_out/scale'] = 2 * tensors['norm_out/scale']
  weights.write(other, 'model', tensors.items())
  np.testing.assert_allclose(opened(source=str(other))(PROMPTS)[0], 2 * first, rtol=1e-4, atol=1e-6)
  assert ran == [4, 4, 4, 4]
