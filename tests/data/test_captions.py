import json

import pytest

from data import captions
from data.captions import Line


def read(tmp_path, *lines):
  path = tmp_path / 'captions.jsonl'
  path.write_bytes(b'\n'.join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines))
  return captions.read(path)


def test_a_caption_comes_first_and_the_words_of_a_label_stand_in_for_it(tmp_path):
  assert read(
    tmp_path,
    {'file': 'a.mp4', 'caption': 'a dog', 'label': 'Dog'},
    {'file': 'b/b.avi', 'caption': None, 'label': 'UCF101:ApplyEyeMakeup', 'split': 'test'},
    b'',
    {'file': 'c.gif', 'label': 'shake_hands', 'source': 'ignored'},
    {'file': 'd.gif', 'caption': ' ', 'label': None, 'source_video': 'a film'},
  ) == {
    'a.mp4': Line('a dog', None),
    'b/b.avi': Line('apply eye makeup', 'test'),
    'c.gif': Line('shake hands', None),
    'd.gif': Line(None, None, 'a film'),
  }


@pytest.mark.parametrize(
  ('line', 'reason'),
  [
    (b'{"file": "b.mp4"', 'no JSON'),
    (
      {'file': 'b.mp4', 'caption': 'a \ud83d dog'},
      r'"a \\ud83d dog" has \\ud83d, which is not a char',
    ),
    ({'file': 'b.mp4', 'label': 'a\udce9'}, r'"a\\xe9" has \\xe9, which is not a character'),
    ({'file': 'b.mp4', 'caption': 'a\0b'}, '.* has NUL, which is not allowed in text'),
    (b'[1, 2]', r'got \[1, 2\]'),
    ({'caption': 'a dog'}, 'no "file"'),
    ({'file': None, 'caption': 'a dog'}, 'got "file": null'),
    ({'file': 'b.mp4', 'caption': 3}, 'got "caption": 3'),
    ({'file': 'b.mp4', 'split': None}, 'got "split": null'),
    ({'file': 'b.mp4', 'source_video': 7}, 'got "source_video": 7'),
    ({'file': 'b.mp4', 'split': '../x'}, r"got the split '\.\./x'"),
    ({'file': '../b.mp4', 'caption': 'a dog'}, r"got the file '\.\./b\.mp4', which is not below"),
    ({'file': '/b.mp4', 'caption': 'a dog'}, r"got the file '/b\.mp4', which is not below"),
    ({'file': 'a.mp4', 'caption': 'a cat'}, r"another line for 'a\.mp4'"),
  ],
)
def test_a_mistake_is_reported_with_its_line(tmp_path, line, reason):
  good = {'file': 'a.mp4', 'caption': 'a dog'}
  message = (
    f'^captions.jsonl, line 2: {reason}.*; allowed is one object for each file, with [^\n]*$'
  )
  with pytest.raises(ValueError, match=message):
    read(tmp_path, good, line)


@pytest.mark.parametrize('separator', ['\u2028', '\u2029', '\x85'])
def test_only_a_line_feed_ends_a_line(tmp_path, separator):
  path = tmp_path / 'captions.jsonl'
  caption = f'a dog{separator}and a cat'
  lines = [{'file': 'a.mp4', 'caption': caption}, {'file': 'b.mp4', 'caption': 'b'}]
  text = '\r\n'.join(json.dumps(line, ensure_ascii=False) for line in lines)
  path.write_bytes(b'\xef\xbb\xbf' + text.encode())
  result = captions.read(path)
  assert result == {'a.mp4': Line(caption, None), 'b.mp4': Line('b', None)}


@pytest.mark.parametrize(
  ('encoding', 'message'),
  [
    ('utf-16', r'^captions\.jsonl, it is UTF-16, or not text; allowed is UTF-8\.$'),
    ('utf-16-be', r'^captions\.jsonl, it is UTF-16, or not text; allowed is UTF-8\.$'),
    (
      'cp1252',
      r'^captions\.jsonl, line 3: byte 0xe9 is not UTF-8, but perhaps Windows-1252; .*\.$',
    ),
  ],
)
def test_another_encoding_is_reported(tmp_path, encoding, message):
  path = tmp_path / 'captions.jsonl'
  text = '{"file": "a.mp4", "caption": "a"}\n\n{"file": "b.mp4", "caption": "a caf\xe9"}\n'
  path.write_bytes(text.encode(encoding))
  with pytest.raises(ValueError, match=message):
    captions.read(path)


def test_a_name_that_is_not_utf_8_may_have_a_line(tmp_path):
  line = {'file': 'caf\udce9.mp4', 'caption': 'a dog'}  # as Python lists the byte 0xe9
  assert read(tmp_path, line) == {'caf\udce9.mp4': Line('a dog', None)}


def test_a_missing_file_is_reported(tmp_path):
  with pytest.raises(ValueError, match=r'There is no file .*none\.jsonl'):
    captions.read(tmp_path / 'none.jsonl')
