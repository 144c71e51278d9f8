"""Text from outside: files, names of files and arguments that may not be clean Unicode."""

import codecs
import pathlib
import re

from core.errors import UserError

_SURROGATE = re.compile('[\ud800-\udfff]')
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def decoded(data: bytes) -> str:
  """The text of a file in UTF-8, without the byte order mark with which it may begin.

  ValueError where it is in another encoding; if bytes alone show it, with the number of their line.
  """
  if data.startswith(_UTF_16) or b'\0' in data:
    raise UserError('it is UTF-16, or no text; allowed is UTF-8')
  try:
    return data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    # `error.object` is what `error.start` counts in, which is without the mark.
    line, byte = error.object.count(10, 0, error.start) + 1, error.object[error.start]
    raise UserError(
      f'line {line}: byte 0x{byte:02x} is not UTF-8, but perhaps Windows-1252; allowed is UTF-8'
    ) from error


def lines(text: str) -> list[str]:
  """The lines of a text, each of which ends with a line feed, or with that after a carriage return.

  `str.splitlines` ends lines at U+2028, NEL, VT and FF too, which texts copied from pages contain.
  """
  return re.split('\r?\n', text)


def require(text: str) -> str:
  """The text; ValueError where it can't be written as UTF-8, or has a NUL, at which C ends it."""
  if found := _SURROGATE.search(text):
    around = escaped(text[max(found.start() - 40, 0) : found.end() + 20])
    raise UserError(f'"{around}" has {escaped(found[0])}, which is no character')
  if '\0' in text:
    raise UserError(f'{text[:60]!r} has NUL, which is no character of a text')
  return text


def require_path(path: pathlib.Path) -> None:
  """Raises ValueError for a folder that libraries in C++ can't open: they take names in UTF-8."""
  try:
    require(str(path))
  except ValueError as error:
    raise UserError(f'The folder {error}; allowed is a name in UTF-8.') from error


def escaped(text: str) -> str:
  r"""The text with escapes for what UTF-8 can't write, as `\xe9` for that byte of a file's name."""
  return _SURROGATE.sub(_escape, text)


def _escape(match: re.Match) -> str:
  code = ord(match[0])
  # Python reads a byte that is not UTF-8 as U+DC00 and that byte (PEP 383).
  return f'\\x{code - 0xDC00:02x}' if 0xDC80 <= code <= 0xDCFF else f'\\u{code:04x}'
