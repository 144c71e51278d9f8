import gzip
import json
import os
import pathlib

import pytest

from text import clip_tokenizer
from text.clip_tokenizer import digest, open_tokenizer, tokenizer, words

RECORDED = pathlib.Path(__file__).parent / 'recorded' / 'clip_tokens.json'
VOCABULARY = pathlib.Path(os.environ.get('LUMIERE_DATA', ''), 'tokenizers')
VOCABULARY /= 'clip_bpe_simple_vocab_16e6.txt.gz'
needs_data = pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')
MERGES = [('a', 'b'), ('b', 'c</w>'), ('ab', 'c</w>'), ('t', 'h'), ('th', 'e</w>')]
A, END_OF_A = ord('a') - 33, ord('a') - 33 + 256  # of a byte, and of one that ends a word
MERGED, BEGIN, END = 512, 517, 518


@needs_data
def test_tokens_that_transformers_made():
  texts, known = zip(*json.loads(RECORDED.read_text('utf-8')))
  assert len(texts) >= 50
  for text, row, tokens in zip(texts, open_tokenizer(VOCABULARY)(texts), known):
    assert row[: len(tokens)].tolist() == tokens, text
    assert (row[len(tokens) - 1 :] == 49407).all()


@needs_data
def test_a_folder_of_hugging_face_is_the_same_vocabulary(tmp_path):
  lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split('\n')[: 48894 + 1]
  (tmp_path / 'merges.txt').write_text('\n'.join(lines) + '\n', 'utf-8')
  texts = ['A photo of a cat.', "it's 4k", '猫']
  known = open_tokenizer(VOCABULARY)(texts)
  assert (open_tokenizer(tmp_path)(texts) == known).all()


@pytest.mark.parametrize(
  ('vocabulary', 'message'),
  [
    ('{"a": 0}', r'vocab\.json does not agree with .*merges\.txt\.$'),
    ('{"a": 0', r'vocab\.json is damaged: Expecting .*\.$'),
    ('{"\xe9": 0}', r'vocab\.json is damaged: .*utf-8'),
  ],
)
def test_a_folder_that_says_two_things_is_refused(vocabulary, message, tmp_path, monkeypatch):
  monkeypatch.setattr(clip_tokenizer, 'SHA256', digest([('a', 'b')] * 48894))
  (tmp_path / 'merges.txt').write_text('#version: 0.2\n' + 'a b\n' * 48894)
  assert open_tokenizer(tmp_path)(['ab']).shape == (1, 77)
  (tmp_path / 'vocab.json').write_text(vocabulary, 'latin-1')
  with pytest.raises(ValueError, match=message):
    open_tokenizer(tmp_path)


@pytest.mark.parametrize(
  ('text', 'known'),
  [
    ('', []),
    ('a', [END_OF_A]),
    ('ba', [A + 1, END_OF_A]),
    ('abc', [MERGED + 2]),  # the first pair first, which takes b from the second
    ('xabc', [ord('x') - 33, MERGED + 2]),
    ('The', [MERGED + 4]),
    ('the the', [MERGED + 4, MERGED + 4]),
    ('12', [ord('1') - 33 + 256, ord('2') - 33 + 256]),
    ('é', [93 + 0xC3 - 0xA1, 256 + 94 + 0xA9 - 0xA1]),  # two bytes; U+00AD is not shown
  ],
)
def test_pairs_are_merged_in_their_order(text, known):
  row = tokenizer(MERGES)([text])[0]
  assert row.tolist() == [BEGIN, *known, *[END] * (76 - len(known))]


def test_a_long_text_keeps_its_end():
  row = tokenizer(MERGES)(['the ' * 100])[0]
  assert row.tolist() == [BEGIN, *[MERGED + 4] * 75, END]


@pytest.mark.parametrize(
  ('text', 'known'),
  [
    ("It's  WE'LL", ['it', "'s", 'we', "'ll"]),
    ("'sound", ["'s", 'ound']),
    ('a1b22', ['a', '1', 'b', '2', '2']),
    ('4k, \t!?...\n', ['4', 'k', ',', '!?...']),
    ('<|endoftext|>', ['<|', 'endoftext', '|>']),
    ('e\u0301', ['é']),
    ('\u03a3a\u03a3', ['\u03c3a\u03c3']),
    ("!'s", ["!'", 's']),
  ],
)
def test_words_are_letters_or_a_digit_or_signs(text, known):
  assert words(text) == known


@pytest.mark.parametrize(
  ('name', 'data', 'message'),
  [
    ('none.txt', None, r'^There is no file .*none\.txt: merges\.txt, or bpe_simple_vocab_16e6'),
    ('short.txt', b'#version\na b\n', r'short\.txt is not of CLIP: it has no 48894 pairs'),
    ('t5.txt', b'a\n' * 50000, r't5\.txt is not of CLIP: '),
    ('gpt2.txt', b'#version: 0.2\n' + b'a b\n' * 50000, r'gpt2\.txt is not of CLIP: .* another '),
    ('cut.txt.gz', gzip.compress(b'a b\n' * 50000)[:-9], r'cut\.txt\.gz is damaged: '),
    ('no.txt.gz', b'a b\n', r'no\.txt\.gz is damaged: '),
    ('latin.txt', b'\xe9\n', r'latin\.txt is damaged: '),
  ],
)
def test_other_files_are_refused(name, data, message, tmp_path):
  if data is not None:
    (tmp_path / name).write_bytes(data)
  with pytest.raises(ValueError, match=message):
    open_tokenizer(tmp_path / name)
