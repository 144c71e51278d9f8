"""The tokenizer of CLIP: byte-pair encoding (Sennrich et al., 2016) of texts in lower case."""

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

Tokenizer = Callable[[Sequence[str]], Int[np.ndarray, 'n k']]
Merges = Sequence[tuple[str, str]]

TOKENS = 77  # of a text, including its begin and its end
VOCABULARY = 49408
END = VOCABULARY - 1  # the token at the end of a text
MERGES = VOCABULARY - 2 * 256 - 2  # further merges in OpenAI's file are not used
SHA256 = 'f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a'  # of CLIP's merges

_SPACES = '\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000'  # Unicode's
_CONTRACTION = re.compile("'(?:s|t|re|ve|m|ll|d)")
_WORD = re.compile('L+|N|o+')  # of kinds of characters: letters, a digit, or anything else


def open_tokenizer(
  path: pathlib.Path, tokens: int = TOKENS, padding: int | None = None
) -> Tokenizer:
  """The tokenizer in OpenAI's file `bpe_simple_vocab_16e6.txt.gz`, or in a folder of Hugging Face.

  tokens, padding: see `tokenizer`.

  Such a folder has `merges.txt`, and a `vocab.json` that agrees with it, or `tokenizer.json`.
  UserError where the file is missing or damaged, or has another vocabulary.
  """
  file = find(path) if path.is_dir() else path
  if not file.is_file():
    raise UserError(f'There is no file {file}: merges.txt, or bpe_simple_vocab_16e6.txt.gz.')
  merges = _merges_of_json(file) if file.suffix == '.json' else _merges_of_lines(file)
  if len(merges) < MERGES or any(len(pair) != 2 for pair in merges):
    raise UserError(f'{file} is not of CLIP: it has no {MERGES} pairs after its first line.')
  if digest(merges) != SHA256:
    raise UserError(f'{file} is not of CLIP: it has the pairs of another vocabulary.')
  vocabulary = path / 'vocab.json'
  if path.is_dir() and vocabulary.is_file() and _read_json(vocabulary) != _token_ids(merges):
    raise UserError(f'{vocabulary} does not agree with {file}.')
  return tokenizer(merges, tokens, padding)


def find(folder: pathlib.Path) -> pathlib.Path:
  """The file of a tokenizer in a folder of Hugging Face, whether it is there or not."""
  merges, complete = folder / 'merges.txt', folder / 'tokenizer.json'
  return complete if complete.is_file() and not merges.is_file() else merges


def _merges_of_lines(file: pathlib.Path) -> list[tuple[str, ...]]:
  try:
    data = file.read_bytes()
    lines = (gzip.decompress(data) if file.suffix == '.gz' else data).decode().split('\n')
  except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
    raise UserError(f'{file} is damaged: {error}.') from error
  return [tuple(line.split()) for line in lines[1 : MERGES + 1]]


def _merges_of_json(file: pathlib.Path) -> list[tuple[str, ...]]:
  """Of Hugging Face's `tokenizer.json`, in which a pair is a list or a line."""
  content = _read_json(file)
  try:
    merges = content['model']['merges']
    return [tuple(pair.split() if isinstance(pair, str) else pair) for pair in merges]
  except (KeyError, TypeError) as error:
    raise UserError(f'{file} is not of CLIP: it has no model with merges.') from error


def digest(merges: Merges) -> str:
  """SHA-256 of the merges in order, one a line, which is the same for both kinds of files."""
  return hashlib.sha256('\n'.join(map(' '.join, merges)).encode()).hexdigest()


def tokenizer(merges: Merges, tokens: int = TOKENS, padding: int | None = None) -> Tokenizer:
  """Returns `tokenize(texts)`: int32 `n k`, where a row has a text between its begin and its end.

  tokens: k, from 2 to 77.
  padding: the token that fills a row after its end; by default the end.

  As in `CLIPTokenizer` of transformers, a text is normalised (NFC) and in lower case, and a long
  text is truncated before its end.  But a text cannot have special tokens: `<|endoftext|>` in it is
  three words.
  """
  if not 2 <= tokens <= TOKENS:
    raise UserError(f'Got tokens={tokens}; a CLIP allows 2 to {TOKENS}.')
  ranks, ids, letters = {pair: i for i, pair in enumerate(merges)}, _token_ids(merges), _letters()
  begin, end = len(ids) - 2, len(ids) - 1

  @functools.lru_cache(maxsize=2**16)
  def encode_word(word: str) -> list[int]:
    pieces = [letters[byte] for byte in word.encode('utf-8', 'surrogatepass')]
    pieces[-1] += '</w>'
    while len(pieces) > 1:
      pairs = itertools.pairwise(pieces)
      rank, pair = min((ranks.get(pair, len(ranks)), pair) for pair in pairs)
      if rank == len(ranks):
        break
      pieces = _merge(pieces, pair)
    return [ids[piece] for piece in pieces]

  def tokenize(texts):
    rows = np.full((len(texts), tokens), end if padding is None else padding, np.int32)
    for row, text in zip(rows, texts):
      ids = [token for word in words(text) for token in encode_word(word)][: tokens - 2]
      row[: len(ids) + 2] = [begin, *ids, end]
    return rows

  return tokenize


def words(text: str) -> list[str]:
  """The words of a text: letters, a digit, a run of other signs, or a contraction such as `'s`."""
  text = re.sub(f'[{_SPACES}]+', ' ', unicodedata.normalize('NFC', text))
  text = ''.join(letter.lower() for letter in text)  # a final sigma is not special in CLIP
  kinds = ''.join(map(_kind, text))
  result, start = [], 0
  while start < len(text):
    match = _CONTRACTION.match(text, start) or _WORD.match(kinds, start)
    end = match.end() if match else start + 1
    result += [text[start:end]] if match else []
    start = end
  return result


def _read_json(path: pathlib.Path) -> object:
  try:
    return json.loads(path.read_bytes())
  except ValueError as error:
    raise UserError(f'{path} is damaged: {error}.') from error


def _kind(letter: str) -> str:
  kind = unicodedata.category(letter)[0]
  return ' ' if letter == ' ' else kind if kind in 'LN' else 'o'


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
  """The pieces with each occurrence of the pair merged, from left to right."""
  merged, i = [], 0
  while i < len(pieces):
    both = tuple(pieces[i : i + 2]) == pair
    merged.append(''.join(pair) if both else pieces[i])
    i += 1 + both
  return merged


def _token_ids(merges: Merges) -> dict[str, int]:
  """The token of each piece: bytes, bytes that end a word, merged pieces, and begin and end."""
  ordered = sorted(_letters(), key=lambda byte: (not _is_printable(byte), byte))
  letters = [_letters()[byte] for byte in ordered]
  pieces = [*letters, *(letter + '</w>' for letter in letters), *map(''.join, merges)]
  return {piece: i for i, piece in enumerate([*pieces, '<|startoftext|>', '<|endoftext|>'])}


@functools.cache
def _letters() -> dict[int, str]:
  """The letter that stands for each byte, as in GPT-2: itself if printable, else from U+0100 on."""
  hidden = (chr(256 + i) for i in range(256))
  return {byte: chr(byte) if _is_printable(byte) else next(hidden) for byte in range(256)}


def _is_printable(byte: int) -> bool:
  return 33 <= byte <= 126 or (161 <= byte <= 255 and byte != 173)
