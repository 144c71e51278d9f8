"""Text from files, file names and arguments, which may not be valid Unicode."""

import codecs
import pathlib
import re

from core.errors import UserError

_SURROGATE = re.compile('[\ud800-\udfff]')
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def decoded(data: bytes) -> str:
  """The text of a file in UTF-8, without a byte order mark.

  ValueError if it is in another encoding, with the line number of the first invalid byte.
  """
  if is_utf_16(data) or b'\0' in data:
    raise UserError('it is UTF-16, or not text; allowed is UTF-8')
  try:
    return data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    # `error.start` is an index into `error.object`, which is the data without the mark.
    line, byte = error.object.count(10, 0, error.start) + 1, error.object[error.start]
    raise UserError(
      f'line {line}: byte 0x{byte:02x} is not UTF-8, but perhaps Windows-1252; allowed is UTF-8'
    ) from error


def is_utf_16(data: bytes) -> bool:
  """Whether a file begins like text in UTF-16 or UTF-32: with their mark, or with a NUL."""
  return data.startswith(_UTF_16) or b'\0' in data[:4]


def lines(text: str) -> list[str]:
  r"""The lines of a text, split only at \n and \r\n.

  `str.splitlines` would also split at U+2028, NEL, VT and FF, which text copied from web pages has.
  """
  return re.split('\r?\n', text)


def require(text: str) -> str:
  """The text; ValueError if it can't be encoded as UTF-8, or has a NUL, which ends C strings."""
  if match := _SURROGATE.search(text):
    around = escaped(text[max(match.start() - 40, 0) : match.end() + 20])
    raise UserError(f'"{around}" has {escaped(match[0])}, which is not a character')
  if '\0' in text:
    raise UserError(f'{text[:60]!r} has NUL, which is not allowed in text')
  return text


def require_path(path: pathlib.Path) -> None:
  """Raises ValueError unless the path is valid UTF-8, as libraries in C++ need it."""
  try:
    require(str(path))
  except ValueError as error:
    raise UserError(f'The folder {error}; allowed is a name in UTF-8.') from error


def escaped(text: str) -> str:
  r"""The text with escapes for what UTF-8 can't encode, as `\xe9` for that byte of a file name."""
  return _SURROGATE.sub(_escape, text)


def _escape(match: re.Match) -> str:
  code = ord(match[0])
  # Python decodes a byte that is not UTF-8 as U+DC00 plus the byte (PEP 383).
  return f'\\x{code - 0xDC00:02x}' if 0xDC80 <= code <= 0xDCFF else f'\\u{code:04x}'
