"""Tokens against those of transformers, on all the captions there are."""

import os
import pathlib

import numpy as np
import pytest

from tests.parity.record_t5 import PROMPTS, TEXTS, tokens
from tests.text import unigram
from text.tokenizer import open_tokenizer


def differing(path, texts, n):
  """The texts that are not the same tokens, or have another mask."""
  (ids, mask), (known, known_mask) = open_tokenizer(path, n)(texts), tokens(path, texts, n)
  same = (ids == known).all(1) & (mask == known_mask).all(1)
  return [text for text, equal in zip(texts, same) if not equal]


@pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
@pytest.mark.parametrize('n', [77, 5])
def test_captions(n):
  data = pathlib.Path(os.environ['LUMIERE_DATA'])
  files = sorted((data / 'prompts').iterdir())
  lines = {line for path in files for line in path.read_text('utf-8').splitlines()}
  # Twice as many: as they are, and with what captions rarely have.
  rng = np.random.default_rng(0)
  texts = sorted(lines) + [
    f'  {x}  {rng.choice(TEXTS)} ' * rng.integers(1, 4) for x in sorted(lines)
  ]
  assert len(texts) > 1000
  print(f'{len(texts)} captions')
  assert not differing(data / 'tokenizers' / 't5-small_tokenizer.json', [*texts, *TEXTS], n)


def test_a_tiny_tokenizer(tmp_path):
  rng = np.random.default_rng(0)
  letters = [*'abcdefghijklmnopqrstuvwxyz', ' ', '  ', '?', '!', 'é', 'red', ' a', 'ing', ' blue']
  drawn = [''.join(rng.choice(letters, rng.integers(0, 30))) for _ in range(500)]
  assert not differing(unigram.write(tmp_path / 'tokenizer.json'), [*PROMPTS, *drawn], 12)
