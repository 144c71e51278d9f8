import json
import os
import pathlib

import pytest

from data import prompts

LISTS = pathlib.Path(os.environ.get('LUMIERE_DATA', 'none'), 'prompts')


@pytest.mark.skipif(not LISTS.is_dir(), reason='LUMIERE_DATA is not set')
@pytest.mark.parametrize(
  ('file', 'count'),
  [
    ('align_your_latents_site_prompts.txt', 19),
    ('imagen_video_site_prompts.txt', 16),
    ('lumiere_site_prompts.json', 148),
    ('make_a_video_site_prompts.txt', 30),
    ('ucf101_prompts.tsv', 101),
    ('vbench_all_dimension.txt', 946),
  ],
)
def test_published_lists_are_read_whole(file, count):
  assert len(prompts.read(LISTS / file)) == count


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('a.txt', 'one\n\n two \n#3\none\n'),
    ('a.tsv', '# a comment\nx\tone\nx\ttwo\ny\tz\t#3\nw\tone'),
    ('a.json', json.dumps(['one', {'prompt': 'two'}, {'caption': '#3', 'file': 'f'}, 'one'])),
    ('a.jsonl', '"one"\n{"prompt": "two"}\n\n{"caption": "#3"}\n"one"'),
  ],
)
def test_every_format_says_the_same(tmp_path, name, text):
  (tmp_path / name).write_text(text)
  assert prompts.read(tmp_path / name) == ['one', 'two', '#3', 'one']


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('a.txt', 'one\n'),
    ('a.tsv', '# a comment\nx\tone'),
    ('a.json', '["one"]'),
    ('a.jsonl', '{"prompt": "one"}'),
  ],
)
def test_the_mark_before_utf_8_is_no_part_of_a_prompt(tmp_path, name, text):
  (tmp_path / name).write_text(text, 'utf-8-sig')
  assert prompts.read(tmp_path / name) == ['one']


def test_a_blank_prompt_is_none(tmp_path):
  items = [{'prompt': ''}, {'prompt': ' ', 'caption': 'no'}, {'prompt': '', 'caption': 'one'}, '']
  (tmp_path / 'a.json').write_text(json.dumps(items))
  assert prompts.read(tmp_path / 'a.json') == ['one']


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('a.csv', 'one', r'a\.csv: its extension is \.csv; allowed are \.txt with one prompt a line'),
    ('a.txt', ' \n', r'a\.txt has no prompt; allowed are'),
    ('a.json', '[{"prompt": ""}]', r'a\.json has no prompt; allowed are'),
    ('a.json', '{"a": 1}', r'Cannot read the prompts of .*a\.json'),
    ('a.json', '[{"text": "x"}]', 'has neither "prompt" nor "caption"'),
    ('a.jsonl', 'one', r'Cannot read the prompts of .*a\.jsonl'),
    ('a.json', '[3]', r'Cannot read the prompts of .*a\.json'),
    ('a.json', '[{"prompt": 3}]', r'Cannot read the prompts of .*a\.json'),
  ],
)
def test_what_is_no_list_of_prompts(tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    prompts.read(tmp_path / name)


@pytest.mark.parametrize('separator', ['\u2028', '\u2029', '\x85', '\x0b', '\x0c', '\x1c'])
@pytest.mark.parametrize('name', ['a.txt', 'a', 'a.tsv', 'a.json', 'a.jsonl'])
def test_only_a_line_feed_ends_a_prompt(tmp_path, name, separator):
  given = [f'a red circle{separator}moving left', 'a blue ring']
  lines = [json.dumps({'prompt': p}, ensure_ascii=False) for p in given]
  text = {'.json': json.dumps(given), '.jsonl': '\r\n'.join(lines)}
  (tmp_path / name).write_bytes(text.get(pathlib.Path(name).suffix, '\r\n'.join(given)).encode())
  assert prompts.read(tmp_path / name) == given


@pytest.mark.parametrize(
  ('name', 'data', 'reason'),
  [
    ('a.txt', 'one\r\ncaf\xe9\r\n'.encode('cp1252'), 'line 2: byte 0xe9 is not UTF-8, but perhaps'),
    ('a.tsv', b'\xef\xbb\xbfa\tone\n\nb\t\x93two\x94', 'line 3: byte 0x93 is not UTF-8'),
    ('a.txt', 'one\ntwo'.encode('utf-16'), 'it is UTF-16, or not text; allowed is UTF-8'),
    ('a.txt', 'one\ntwo'.encode('utf-16-le'), 'it is UTF-16, or not text; allowed is UTF-8'),
    ('a.json', '["one"]'.encode('utf-16-be'), 'it is UTF-16, or not text; allowed is UTF-8'),
    ('a.txt', b'one\na \xed\xa0\xbd ring', 'line 2: byte 0xed is not UTF-8'),
    (
      'a.json',
      b'["one", "a \\ud83d ring"]',
      r'item 2: "a \\ud83d ring" has \\ud83d, which is not a char',
    ),
    (
      'a.jsonl',
      b'\n{"caption": "\\udc00"}',
      r'line 2: "\\udc00" has \\udc00, which is not a character',
    ),
    ('a.jsonl', b'"a\\u0000b"', 'line 1: .* has NUL, which is not allowed'),
    ('a.jsonl', b'"one"\n{"prompt": 3}', 'line 2: the prompt 3 is not a string'),
  ],
)
def test_what_is_no_clean_text_is_reported_with_its_line(tmp_path, name, data, reason):
  (tmp_path / name).write_bytes(data)
  message = rf'^Cannot read the prompts of .*{name}: {reason}[^\n]*; allowed are [^\n]*\.$'
  with pytest.raises(ValueError, match=message):
    prompts.read(tmp_path / name)


def test_both_halves_of_a_character_are_one(tmp_path):
  (tmp_path / 'a.json').write_text(r'["a \ud83d\ude00 ring"]')
  assert prompts.read(tmp_path / 'a.json') == ['a \U0001f600 ring']


def test_no_file(tmp_path):
  with pytest.raises(ValueError, match=r'Cannot read the prompts of .*none\.txt'):
    prompts.read(tmp_path / 'none.txt')
