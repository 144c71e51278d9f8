"""Sources, tests and docs use the field's terms: CONTRIBUTING.md has the glossary."""

import io
import keyword
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted(
  path.relative_to(ROOT).as_posix()
  for pattern in ('*.py', '*.md', '[a-z]*/**/*.py', '[a-z]*/**/*.md', '[a-z]*/**/*.sh')
  for path in ROOT.glob(pattern)
  if path.name not in ('CONTRIBUTING.md', 'test_words.py')  # which name the words
)

# A pattern of whole identifiers -> what to write instead.
IDENTIFIERS = {
  'held': 'cast_kernels, or what is kept',
  'at_home': 'the sharding, as in sharded_shape',
  'hear|heard|hearing|unheard|_hear': 'attend, null_text, or what is done with the metrics',
  'told|told_by|tell|_tell|telling': 'cond, settings, log, warn or print',
  'begun_from': 'initial_params',
  'Given': 'Condition, with its mask',
  'births?|born': 'at initialisation',
  'found': "the thing's own name",
  'of|of_': "the thing's own name",
  'said|saying': "the thing's own name: text, message, output",
}
# A pattern of text, in code, comments and prose alike -> what to write instead.
TEXT = {
  r'(?<![\w.])(?:whole|spread)\(': 'replicate or shard_activations',
  r'\bat birth\b': 'at initialisation',
  r'(?<![a-z])(?:fore)?told(?![a-z])': 'conditioned on, logged, printed or warned',
  r'(?<![a-z])(?:un)?heard(?![a-z])': 'null text, or not read',
  r"""\[['"]known['"]\]|['"]known['"]:|\.known\b""": 'mask',
  r'\bin the magnitude of what it is added to\b': "scaled by the input's per-frame RMS",
  r'\btokens? asks?\b|\btokens answer\b': 'query; keys and values',
  r"\b(?:down|up)_blocks\b(?!['.])": 'down_units and up_units',  # quoted: a key of old configs
  r'\b(?:down|up)\d_block\d\b': 'down0_unit0',
}

# Words of file formats, which users' files have: a pattern of paths -> the words.
FORMATS = {
  r'evaluation/protocol\.py': ('of',),
  r'.*user_study/.*|tests/raters\.py|tests/test_evaluate\.py': ("['known']", "'known':", '.known'),
}


def identifiers(text: str):
  """Yields (line, name) for every identifier in Python source."""
  for token in tokenize.generate_tokens(io.StringIO(text).readline):
    if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
      yield token.start[0], token.string


def faults(path: str, text: str) -> list[str]:
  """Every use of a forbidden word in a file, with its line and the right word."""
  names = list(identifiers(text)) if path.endswith('.py') else []
  return [
    f'{path}:{line}: {name}; write {right}'
    for line, name in names
    for pattern, right in IDENTIFIERS.items()
    if re.fullmatch(pattern, name)
  ] + [
    f'{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}; write {right}'
    for pattern, right in TEXT.items()
    for match in re.finditer(pattern, text)
  ]


def test_a_forbidden_word_is_reported_with_its_line_and_the_right_word():
  code = 'def act(of):\n  found = "told at birth"  # and held out\n'
  assert faults('a.py', code) == [
    "a.py:1: of; write the thing's own name",
    "a.py:2: found; write the thing's own name",
    'a.py:2: at birth; write at initialisation',
    'a.py:2: told; write conditioned on, logged, printed or warned',
  ]
  assert faults('a.md', 'What is found of a held-out clip.') == []


@pytest.mark.parametrize('path', FILES)
def test_a_file_uses_the_words_of_the_glossary(path):
  words = [
    word for pattern, words in FORMATS.items() if re.fullmatch(pattern, path) for word in words
  ]
  uses = faults(path, (ROOT / path).read_text('utf-8'))
  uses = [use for use in uses if not any(f': {word}; ' in use for word in words)]
  assert not uses, '\n'.join(uses)
