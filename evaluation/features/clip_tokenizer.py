"""The tokens of CLIP: byte pairs (Sennrich et al., 2016) of texts in lower case."""

import functools
import gzip
import hashlib
import itertools
import json
import pathlib
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int

from core.errors import UserError

Tokenizer = Callable[[Sequence[str]], Int[np.ndarray, 'n 77']]
Merges = Sequence[tuple[str, str]]

TOKENS = 77  # of a text, with its begin and its end
VOCABULARY = 49408
MERGES = VOCABULARY - 2 * 256 - 2  # OpenAI's file has more, which are not used
SHA256 = 'f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a'  # of CLIP's pairs

_SPACES = '\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000'  # Unicode's
_CONTRACTION = re.compile("'(?:s|t|re|ve|m|ll|d)")
_WORD = re.compile('L+|N|o+')  # of kinds of characters: letters, a digit, or anything else


def open_tokenizer(path: pathlib.Path) -> Tokenizer:
  """The tokenizer of OpenAI's file `bpe_simple_vocab_16e6.txt.gz`, or of a folder of Hugging Face.

  Such a folder has `merges.txt`, and `vocab.json`, which says the same again.  ValueError where the
  file is missing or damaged, or is of another vocabulary.
  """
  file = path / 'merges.txt' if path.is_dir() else path
  if not file.is_file():
    raise UserError(f'There is no file {file}: merges.txt, or bpe_simple_vocab_16e6.txt.gz.')
  try:
    data = file.read_bytes()
    lines = (gzip.decompress(data) if file.suffix == '.gz' else data).decode().split('\n')
  except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
    raise UserError(f'{file} is damaged: {error}.') from error
  merges = [tuple(line.split()) for line in lines[1 : MERGES + 1]]
  if len(merges) < MERGES or any(len(pair) != 2 for pair in merges):
    raise UserError(f'{file} is not of CLIP: it has no {MERGES} pairs after its first line.')
  if digest(merges) != SHA256:
    raise UserError(f'{file} is not of CLIP: it has the pairs of another vocabulary.')
  said = path / 'vocab.json'
  if path.is_dir() and said.is_file() and _read_json(said) != _numbers(merges):
    raise UserError(f'{said} is not what {file} says.')
  return tokenizer(merges)


def digest(merges: Merges) -> str:
  """SHA-256 of the pairs in their order, a line for each, the same of both kinds of files."""
  return hashlib.sha256('\n'.join(map(' '.join, merges)).encode()).hexdigest()


def tokenizer(merges: Merges) -> Tokenizer:
  """Returns `tokenize(texts)`: int32 `n 77`, each row a text between the begin and the end.

  As `CLIPTokenizer` of transformers does, a text is composed (NFC) and in lower case, what is
  longer is cut off before its end, and the end goes on to fill the row.  But whatever is in a text
  is a text: `<|endoftext|>` in it is three words.
  """
  ranks, numbers, names = {pair: i for i, pair in enumerate(merges)}, _numbers(merges), _bytes()
  begin, end = len(numbers) - 2, len(numbers) - 1

  @functools.lru_cache(maxsize=2**16)
  def of_word(word: str) -> list[int]:
    pieces = [names[byte] for byte in word.encode('utf-8', 'surrogatepass')]
    pieces[-1] += '</w>'
    while len(pieces) > 1:
      pairs = itertools.pairwise(pieces)
      rank, pair = min((ranks.get(pair, len(ranks)), pair) for pair in pairs)
      if rank == len(ranks):
        break
      pieces = _merged(pieces, pair)
    return [numbers[piece] for piece in pieces]

  def tokenize(texts):
    ids = np.full((len(texts), TOKENS), end, np.int32)
    for row, text in zip(ids, texts):
      of_text = [number for word in words(text) for number in of_word(word)][: TOKENS - 2]
      row[: len(of_text) + 1] = [begin, *of_text]
    return ids

  return tokenize


def words(text: str) -> list[str]:
  """The words of a text: letters, a digit, or a run of other signs; `'s` and the like are words."""
  text = re.sub(f'[{_SPACES}]+', ' ', unicodedata.normalize('NFC', text))
  text = ''.join(letter.lower() for letter in text)  # one by one: a sigma at the end is as others
  kinds = ''.join(map(_kind, text))
  found, at = [], 0
  while at < len(text):
    match = _CONTRACTION.match(text, at) or _WORD.match(kinds, at)
    end = match.end() if match else at + 1
    found += [text[at:end]] if match else []
    at = end
  return found


def _read_json(path: pathlib.Path) -> object:
  try:
    return json.loads(path.read_bytes())
  except ValueError as error:
    raise UserError(f'{path} is damaged: {error}.') from error


def _kind(letter: str) -> str:
  kind = unicodedata.category(letter)[0]
  return ' ' if letter == ' ' else kind if kind in 'LN' else 'o'


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
  """The pieces with each such pair as one, from left to right."""
  made, i = [], 0
  while i < len(pieces):
    both = tuple(pieces[i : i + 2]) == pair
    made.append(''.join(pair) if both else pieces[i])
    i += 1 + both
  return made


def _numbers(merges: Merges) -> dict[str, int]:
  """The number of each piece: bytes, bytes which end a word, what is merged, and begin and end."""
  ordered = sorted(_bytes(), key=lambda byte: (not _is_shown(byte), byte))
  letters = [_bytes()[byte] for byte in ordered]
  pieces = [*letters, *(letter + '</w>' for letter in letters), *map(''.join, merges)]
  return {piece: i for i, piece in enumerate([*pieces, '<|startoftext|>', '<|endoftext|>'])}


@functools.cache
def _bytes() -> dict[int, str]:
  """A letter for each byte, as of GPT-2: itself if it is shown, else one from U+0100 on."""
  hidden = (chr(256 + i) for i in range(256))
  return {byte: chr(byte) if _is_shown(byte) else next(hidden) for byte in range(256)}


def _is_shown(byte: int) -> bool:
  return 33 <= byte <= 126 or (161 <= byte <= 255 and byte != 173)
