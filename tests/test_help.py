"""What the scripts with verbs say when they are asked for help."""

import re

import pytest
from absl import flags

from tests.scripts import call, script
from tests.test_docs import COMMANDS, flags_of


@pytest.fixture(scope='module', params=['evaluate', 'sample'])
def module(request):
  with script(request.param) as module:
    yield module


def test_every_verb_has_a_line_and_a_help_of_its_own(module):
  code, whole, err = call(module, '--help')
  assert (code, err) == (0, '')
  for name, verb in module.VERBS.items():
    assert f'  {name} ' in whole
    assert verb.about in whole
    code, out, err = call(module, name, '--help')
    assert (code, err) == (0, '')
    assert out.startswith(f'{name}: {verb.about}\n\n  {verb.example}\n')
    assert re.findall(r'^  --(?:\[no\])?(\w+): ', out, re.MULTILINE) == verb.names


def test_examples_and_documented_commands_have_flags_that_their_verb_takes(module):
  of_verb = lambda words: next((word for word in words[2:] if word in module.VERBS), None)
  examples = [verb.example.split() for verb in module.VERBS.values()]
  documented = [words for _, words in COMMANDS if words[:2] == ['python', examples[0][1]]]
  assert documented
  for words in examples + documented:
    verb = module.VERBS[of_verb(words) or next(iter(module.VERBS))]
    taken = {word[2:].split('=')[0] for word in words if word.startswith('--')}
    assert taken <= {*verb.names}, words


def test_every_flag_belongs_to_a_verb_and_says_what_it_is_in_sentences(module):
  names = {name for verb in module.VERBS.values() for name in verb.names}
  assert names == flags_of(module.__file__)
  for name in names:
    text = flags.FLAGS[name].help.split('>: ')[-1]
    assert re.fullmatch(r'[A-Z]\S* (\S+ )+\S+\.', re.sub(r'\s+', ' ', text)), f'--{name}: {text}'
