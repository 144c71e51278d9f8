import os

import pytest

from core import unicode


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('inside', '\u2028 \u2029 \x85 \x0b \x0c \x1c \x1d \x1e'.split(' '))
def test_lines_end_with_line_feeds_alone(end, inside):
  assert len(f'a{inside}b'.splitlines()) == 2
  assert unicode.lines(f'a{inside}b{end}c') == [f'a{inside}b', 'c']


def test_a_file_in_utf_8_is_read_with_and_without_its_mark():
  assert unicode.decoded('\xe9\U0001f600'.encode()) == '\xe9\U0001f600'
  assert unicode.decoded('\xe9'.encode('utf-8-sig')) == '\xe9'


@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
@pytest.mark.parametrize('line', [1, 2, 7])
def test_a_byte_that_is_not_utf_8_is_reported_with_its_line(mark, line):
  data = mark + b'\n' * (line - 1) + b'a caf\xe9\nb\n'
  with pytest.raises(
    ValueError, match=rf'^line {line}: byte 0xe9 is not UTF-8, but perhaps Windows'
  ):
    unicode.decoded(data)


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-le', 'utf-16-be', 'utf-32', 'utf-32-be'])
def test_utf_16_is_reported(encoding):
  with pytest.raises(ValueError, match=r'^it is UTF-16, or not text; allowed is UTF-8$'):
    unicode.decoded('a dog'.encode(encoding))
  with pytest.raises(ValueError, match=r'^it is UTF-16'):
    unicode.decoded('\ufeff\u72d7'.encode('utf-16-le'))  # of which no byte is zero


@pytest.mark.parametrize('name', [b'caf\xe9', b'\xff', b'below/\xe2\x80'])
def test_a_folder_that_libraries_cannot_open_is_refused(tmp_path, name):
  unicode.require_path(tmp_path / 'caf\xe9 \U0001f600')
  with pytest.raises(ValueError, match=r'^The folder .* has \\x.*; allowed is a name in UTF-8\.$'):
    unicode.require_path(tmp_path / os.fsdecode(name))


def test_what_utf_8_cannot_write_is_escaped():
  assert unicode.escaped(os.fsdecode(b'caf\xe9 \xff')) == r'caf\xe9 \xff'
  assert unicode.escaped('a \ud83d \udc00') == r'a \ud83d \udc00'
  assert unicode.escaped('\xe9 \U0001f600') == '\xe9 \U0001f600'
