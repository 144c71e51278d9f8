"""Tokens against those of transformers, on all the captions there are."""

import json
import os
import pathlib

import numpy as np
import pytest
import sentencepiece
from transformers import T5Tokenizer

from tests.parity.record_t5 import PROMPTS, TEXTS, tokens
from tests.text import unigram
from text.tokenizer import open_tokenizer

needs_data = pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
T5 = pathlib.Path(os.environ.get('LUMIERE_DATA', ''), 'tokenizers', 't5-small_tokenizer.json')


def differing(path, texts, n):
  """The texts that are not the same tokens, or have another mask."""
  (ids, mask), (known, known_mask) = open_tokenizer(path, n)(texts), tokens(path, texts, n)
  same = (ids == known).all(1) & (mask == known_mask).all(1)
  return [text for text, equal in zip(texts, same) if not equal]


@pytest.fixture(scope='module')
def captions():
  """All there are, and again with what captions rarely have."""
  files = sorted(pathlib.Path(os.environ['LUMIERE_DATA'], 'prompts').iterdir())
  lines = sorted({line for path in files for line in path.read_text('utf-8').splitlines()})
  rng = np.random.default_rng(0)
  odd = [f'  {line}  {rng.choice(TEXTS)} ' * rng.integers(1, 4) for line in lines]
  assert len(lines) > 1000
  return [*lines, *odd, *TEXTS]


@needs_data
@pytest.mark.parametrize('n', [77, 5])
def test_captions(captions, n):
  print(f'{len(captions)} captions')
  assert not differing(T5, captions, n)


@needs_data
def test_a_file_of_newer_versions(captions, tmp_path):
  """They say with other steps how spaces are dealt with."""
  spec = json.loads(T5.read_text('utf-8'))
  spaces = {'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, 'content': '▁'}
  strip = {'type': 'Strip', 'strip_left': False, 'strip_right': True}
  spec['normalizer'] = {
    'type': 'Sequence',
    'normalizers': [spec['normalizer'], strip, spaces],
  }
  spec['pre_tokenizer'] = unigram.METASPACE
  path = tmp_path / 'tokenizer.json'
  path.write_text(json.dumps(spec))
  assert not differing(path, captions, 77)


@needs_data
def test_a_model_of_sentencepiece(captions, tmp_path):
  options = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1, vocab_size=1500, minloglevel=2)
  plain = captions[: len(captions) // 2]  # of a hundred a's it would learn pieces that tie
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(plain), model_prefix=str(tmp_path / 'spiece'), **options
  )
  theirs = T5Tokenizer.from_pretrained(tmp_path)
  shape = dict(padding='max_length', max_length=77, truncation=True, return_tensors='np')
  known = theirs([text.lower().strip() for text in captions], **shape)['input_ids']
  ids, _ = open_tokenizer(tmp_path / 'spiece.model', 77)(captions)
  assert (ids == known).all()


def test_a_tiny_tokenizer(tmp_path):
  rng = np.random.default_rng(0)
  letters = [*'abcdefghijklmnopqrstuvwxyz', ' ', '  ', '?', '!', 'é', 'red', ' a', 'ing', ' blue']
  drawn = [''.join(rng.choice(letters, rng.integers(0, 30))) for _ in range(500)]
  assert not differing(unigram.write(tmp_path / 'tokenizer.json'), [*PROMPTS, *drawn], 12)
