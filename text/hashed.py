"""A text encoder without training: every word has a fixed pseudo-random vector."""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from core.errors import UserError

Encoder = Callable[[Sequence[str]], tuple[Float[np.ndarray, 'b n d'], Bool[np.ndarray, 'b n']]]


def encoder(tokens: int, width: int) -> Encoder:
  """Returns `encode(texts) -> (text, mask)`: `b n d` embeddings, and a mask of words (`b n`).

  tokens, width: n and d.

  A text is split into words in lower case, without punctuation; words after the first `tokens` are
  dropped.  A word's vector has unit variance, and a sinusoidal position embedding (Vaswani et al.,
  2017, Sec. 3.5) is added to it.  Padding is zero.  The result is the same on every machine.
  """
  if tokens < 1 or width < 1:
    raise UserError(f'Got tokens={tokens} and width={width}; both must be at least 1.')
  positions = _positions(tokens, width)
  # Captions repeat their words; the bound keeps a large corpus from filling the memory.
  vector = functools.lru_cache(maxsize=65_536)(functools.partial(_vector, width=width))

  def encode(texts: Sequence[str]):
    text = np.zeros((len(texts), tokens, width), np.float32)
    mask = np.zeros((len(texts), tokens), bool)
    for b, words in enumerate(map(_words, texts)):
      for n, word in enumerate(words[:tokens]):
        text[b, n] = vector(word) + positions[n]
        mask[b, n] = True
    return text, mask

  return encode


def _words(text: str) -> list[str]:
  # NFC, because a separate accent is not a letter and would end the word.
  return re.findall(r'\w+', unicodedata.normalize('NFC', text).lower())


def _vector(word: str, width: int) -> Float[np.ndarray, ' d']:
  key = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=16).digest(), 'little')
  # Raw bits, since numpy guarantees only these to be the same in every version.
  bits = np.random.Philox(key=key).random_raw(width) >> np.uint64(40)
  uniform = (bits.astype(np.float64) + 0.5) / 2**24
  return (np.sqrt(12) * (uniform - 0.5)).astype(np.float32)


def _positions(tokens: int, width: int) -> Float[np.ndarray, 'n d']:
  pairs = (width + 1) // 2
  angles = np.outer(np.arange(tokens), 10_000.0 ** (-np.arange(pairs) / pairs))
  waves = np.concatenate([np.sin(angles), np.cos(angles)], -1)
  return waves[:, :width].astype(np.float32)
