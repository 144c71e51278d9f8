import json
import os
import pathlib

import numpy as np
import pytest
import sentencepiece

from tests.text import unigram
from tests.text.unigram import ID
from text.tokenizer import find, open_tokenizer

RECORDED = pathlib.Path(__file__).parent / 'recorded'


@pytest.fixture
def path(tmp_path):
  return unigram.write(tmp_path / 'tokenizer.json')


def tokens(path, text, n=8):
  ids, mask = open_tokenizer(path, n)([text])
  assert not ids[~mask].any()
  pieces = list(ID)
  return [pieces[i] for i in ids[mask]]


@pytest.mark.parametrize(
  ('text', 'known'),
  [
    ('a red circle', ['▁a', '▁red', '▁circle']),
    ('  A   RED circle ', ['▁a', '▁red', '▁circle']),
    ('moving', ['▁mov', 'ing']),
    ('cab', ['▁', 'c', 'a', 'b']),
    ('a 🎉🎉', ['▁a', '▁', '<unk>']),
    ('', []),
    ('a a a a a a a a a', ['▁a'] * 7),  # cut off
    ('pad</s>', ['▁', 'p', 'a', 'd', '<unk>', 's', '<unk>']),  # what looks like an end is none
  ],
)
def test_tokens_of_a_text(path, text, known):
  assert tokens(path, text) == [*known, '</s>']


def test_types_and_shapes(path):
  ids, mask = open_tokenizer(path, 5)(['a', 'a red', ''])
  assert ids.dtype == np.int32
  assert ids.tolist() == [[ID['▁a'], 1, 0, 0, 0], [ID['▁a'], ID['▁red'], 1, 0, 0], [1, 0, 0, 0, 0]]
  assert mask.sum(1).tolist() == [2, 3, 1]
  assert open_tokenizer(path, 5)([])[0].shape == (0, 5)


def train(folder, **options):
  """A file of sentencepiece, with the settings of T5 unless others are passed."""
  (folder / 'texts.txt').write_text('a red circle moving left\na blue square\n' * 20)
  sentencepiece.SentencePieceTrainer.train(
    input=str(folder / 'texts.txt'), model_prefix=str(folder / 'spiece'), minloglevel=2,
    **dict(vocab_size=24, pad_id=0, eos_id=1, unk_id=2, bos_id=-1) | options,
  )  # fmt: skip
  return folder / 'spiece.model'


def test_a_file_of_sentencepiece(tmp_path):
  path = train(tmp_path)
  ids, mask = open_tokenizer(path, 20)(['A red  circle'])
  model = sentencepiece.SentencePieceProcessor(model_file=str(path))
  assert ids[mask].tolist() == [*model.encode('a red circle'), 1]
  assert find(tmp_path) == path


def test_a_tokenizer_file_says_the_same_as_the_model_it_is_of(tmp_path):
  path = train(tmp_path)
  model = sentencepiece.SentencePieceProcessor(model_file=str(path))
  pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(len(model))]
  made = dict(type='Unigram', unk_id=2, vocab=pieces)
  made = unigram.write(tmp_path / 'tokenizer.json', model=made)
  texts = ['a red square', 'blue', 'left, right', '', 'movie']
  for got, known in zip(open_tokenizer(made, 16)(texts), open_tokenizer(path, 16)(texts)):
    np.testing.assert_array_equal(got, known)


@pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
def test_tokens_that_transformers_made():
  path = pathlib.Path(os.environ['LUMIERE_DATA'], 'tokenizers', 't5-small_tokenizer.json')
  texts, known = zip(*json.loads((RECORDED / 'tokens.json').read_text('utf-8')))
  ids, mask = open_tokenizer(path, 77)(texts)
  assert len(texts) >= 40
  for text, row, kept, of_text in zip(texts, ids, mask, known):
    assert row[kept].tolist() == of_text, text


OF_BPE = {'model': {'type': 'BPE', 'vocab': {'a': 0}, 'merges': []}}
NO_PAD = {'model': {'unk_id': 0, 'vocab': [['<unk>', 0], ['</s>', 0], ['a', -1]]}}
LOWERCASE = {'normalizer': {'type': 'Sequence', 'normalizers': [{'type': 'Lowercase'}]}}
FALLS_BACK = {'model': unigram.described()['model'] | {'byte_fallback': True}}
TWICE = {'model': {'unk_id': 2, 'vocab': [*unigram.PIECES, ['a', -1.0]]}}


@pytest.mark.parametrize(
  ('changed', 'reason'),
  [
    (OF_BPE, 'or not a tokenizer of T5: it is not a unigram model.'),
    (NO_PAD, 'is not of T5, a unigram model in which <pad> is 0 and </s> exists.'),
    (LOWERCASE, 'or not a tokenizer of T5: it has the steps Lowercase.'),
    (FALLS_BACK, 'or not a tokenizer of T5: it has byte_fallback.'),
    (TWICE, 'is damaged, or not a model of sentencepiece: '),
    ({'model': {}}, "or not a tokenizer of T5: 'vocab'."),
    ({'model': None}, 'is damaged, or not a tokenizer of T5: '),
  ],
)
def test_another_kind_of_tokenizer_is_refused(tmp_path, changed, reason):
  path = unigram.write(tmp_path / 'tokenizer.json', **changed)
  with pytest.raises(ValueError, match=r'tokenizer\.json') as error:
    open_tokenizer(path, 8)
  assert reason in str(error.value)
  assert '\n' not in str(error.value)


def test_a_damaged_file_is_refused(tmp_path, path):
  path.write_bytes(path.read_bytes()[:-30])
  with pytest.raises(ValueError, match=r'json is damaged, or not a tokenizer of T5: '):
    open_tokenizer(path, 8)
  model = train(tmp_path)
  model.write_bytes(model.read_bytes()[:-30])
  with pytest.raises(
    ValueError, match=r'spiece\.model is damaged, or not a model of sentencepiece'
  ):
    open_tokenizer(model, 8)
  model.write_bytes(b'')
  with pytest.raises(
    ValueError, match=r'spiece\.model is damaged, or not a model of sentencepiece'
  ):
    open_tokenizer(model, 8)


def test_a_model_of_sentencepiece_that_is_not_of_t5_is_refused(tmp_path):
  path = train(tmp_path, model_type='bpe')
  with pytest.raises(
    ValueError, match=r'spiece\.model is not of T5, a unigram model in which <pad>'
  ):
    open_tokenizer(path, 8)


def test_missing_files_and_places_are_refused(tmp_path, path):
  with pytest.raises(ValueError, match=r'There is no file .*none\.json\.'):
    open_tokenizer(tmp_path / 'none.json', 8)
  with pytest.raises(ValueError, match=r'There is no spiece\.model or tokenizer\.json in .*none\.'):
    find(tmp_path / 'none')
  with pytest.raises(ValueError, match=r'Got tokens=0; it must be at least 1\.'):
    open_tokenizer(path, 0)
