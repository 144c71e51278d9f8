import io
import json
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from ml_collections import config_flags

from core import command, interrupt, usage, video
from core.errors import Advice, UserError


@pytest.fixture
def run(monkeypatch, capsys):
  """Runs a command with arguments; returns the exit status and stderr."""

  def run(start, what, *argv):
    monkeypatch.setattr(sys, 'argv', ['command.py', *argv])
    monkeypatch.setattr(interrupt, 'end_process', sys.exit)
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as exit:
      start(what)
    return exit.value.code or 0, capsys.readouterr().err

  return run


@pytest.fixture
def config(tmp_path):
  """The flags of a command, and its config file."""
  path = tmp_path / 'config.py'
  path.write_text(
    'from ml_collections import ConfigDict\n'
    'def get_config(scale="tiny"):\n'
    '  if scale != "tiny":\n'
    '    raise ValueError(f"No scale {scale!r}; allowed are tiny.")\n'
    '  return ConfigDict({"steps": 3, "model": {"groups": 4, "source": "", "of": ("a",)}})\n'
  )
  help = 'The number of tests that are run one after another.'
  flags.DEFINE_integer('test_count', 1, help, lower_bound=1)
  flags.DEFINE_float('test_count_of', 1.0, '', lower_bound=0.0)
  config_flags.DEFINE_config_file('test_config', lock_config=True)
  yield path
  for name in [name for name in flags.FLAGS if name.startswith('test_co')]:
    delattr(flags.FLAGS, name)


def nothing():
  pass


def run_verb(call):
  """Runs a command whose only verb is this call."""
  command.run_verb({'verb': usage.Verb(call, 'Does it.', 'python x.py verb', {})}, 'Does.')


def json_of_nothing():
  json.loads('')


def test_what_is_called_succeeds(run, config):
  seen = []

  def main():
    seen.append((flags.FLAGS.test_count, flags.FLAGS.test_config.model.groups))

  argv = (f'--test_config={config}', '--test_count=3', '--test_config.model.groups=8')
  assert run(command.run, main, *argv) == (0, '')
  assert seen == [(3, 8)]


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (('--nope=1',), "error: Unknown command line flag 'nope'"),
    (('--test_count_of=nan',), 'error: flag --test_count_of=nan: allowed is a finite number.'),
    (('--test_count_of=inf',), 'error: flag --test_count_of=inf: allowed is a finite number.'),
    (('--test_count=0',), 'error: flag --test_count=0: 0 is not a positive integer'),
    (
      ('--test_config.model.grups=8',),
      'Unknown config key --test_config.model.grups: did you mean --test_config.model.groups?',
    ),
    (
      ('--test_config=configs/none.py:tiny',),
      'error: --test_config=configs/none.py: there is no such file; allowed are configs/',
    ),
    (('--test_steps=8',), "error: Unknown command line flag 'test_steps'"),
    (('--steps=8',), 'error: Unknown flag --steps: did you mean --test_config.steps?'),
    (('--test_count=eight',), 'error: flag --test_count=eight: allowed is a whole number.'),
    (('--test_config.steps=eight',), 'flag --test_config.steps=eight: allowed is a whole number.'),
    (('--test_count_of=fast',), 'flag --test_count_of=fast: allowed is a number.'),
    (('--test_config.model=3',), 'allowed is a value for one key of the group, as --GROUP.KEY='),
    (('--test_config={}:large',), "error: No scale 'large'; allowed are tiny."),
    (
      ('--test_config.model.source=a\udcff',),
      '--test_config.model.source: "a\\xff" has \\xff, which is no',
    ),
    (
      ("--test_config.model.of=('\udcff',)",),
      'has \\xff, which is not a character; allowed',
    ),
    (('--test_config.model.source=\ud83d',), 'which is not a character; allowed is Unicode text.'),
    (('word',), "error: Unknown arguments: 'word'. Allowed are flags: see --help."),
  ],
)
def test_a_mistake_in_the_flags_is_one_line(run, config, argv, message):
  code, err = run(
    command.run, nothing, f'--test_config={config}', *(a.format(config) for a in argv)
  )
  assert code == 2
  assert message in err
  assert err.startswith('error: ')
  assert err.count('\n') == 1


def test_the_name_of_any_file_can_be_printed(run, capsys, monkeypatch):
  stdout = io.TextIOWrapper(io.BytesIO(), 'utf-8', errors='strict', write_through=True)
  monkeypatch.setattr(sys, 'stdout', stdout)
  assert run(command.run, lambda: print('caf\udce9.mp4 \xe9'))[0] == 0
  assert stdout.buffer.getvalue().decode() == 'caf\\udce9.mp4 \xe9\n'


def test_a_mistake_found_by_the_project_is_one_line(run):
  code, err = run(command.run, lambda: video.check_writable('a.avi'))
  assert code == 2
  assert err.startswith("error: Cannot write a.avi: its extension is '.avi'; allowed are .gif, ")
  assert err.count('\n') == 1


@pytest.mark.parametrize(
  'defect', [lambda: np.zeros(2).reshape(3), lambda: int('x'), lambda: {}['key'], json_of_nothing]
)
def test_a_defect_keeps_its_traceback(monkeypatch, defect):
  """A ValueError of numpy is not the user's mistake, though it has no frame of its own."""
  monkeypatch.setattr(sys, 'argv', ['command.py'])
  with flagsaver.flagsaver(), pytest.raises((ValueError, KeyError)):
    command.run(defect)


def test_an_error_of_the_system_is_one_line_where_a_flag_or_a_config_names_the_path(
  run, config, tmp_path, monkeypatch
):
  file, argv = tmp_path / 'file', [f'--test_config={config}']
  file.touch()
  below = lambda: (file / 'below').mkdir()
  expected = (2, f'error: {file / "below"}: Not a directory.\n')
  assert run(command.run, below, *argv, f'--test_config.model.source={file}') == expected
  assert run(run_verb, below, *argv, f'--test_config.model.source={file}') == expected
  monkeypatch.setattr(sys, 'argv', ['command.py', *argv])
  with flagsaver.flagsaver(), pytest.raises(NotADirectoryError):
    command.run(below)


def interrupted():
  raise KeyboardInterrupt


@pytest.mark.parametrize('where', ['flags', 'command', 'verb'])
def test_ctrl_c_is_one_line(run, config, where):
  if where == 'flags':
    config.write_text('raise KeyboardInterrupt')
    got = run(command.run, nothing, f'--test_config={config}')
  elif where == 'command':
    got = run(command.run, interrupted)
  else:
    got = run(run_verb, interrupted)
  assert got == (130, 'error: interrupted.\n')


def test_an_error_of_what_closes_files_after_ctrl_c_is_that(run):
  def main():
    try:
      raise KeyboardInterrupt
    finally:
      raise ValueError("Can't close the file while there is a handle on it.")

  assert run(command.run, main) == (130, 'error: interrupted.\n')


def test_advice_follows_the_message_and_other_notes_do_not(run):
  def main(error):
    error.add_note(Advice('Do that.'))
    error.add_note('of a library')
    try:
      raise error
    finally:
      raise UserError('closing fails.')

  closing = lambda: main(OSError())
  assert run(command.run, lambda: main(KeyboardInterrupt())) == (
    130, 'error: interrupted. Do that.\n'
  )  # fmt: skip
  assert run(command.run, closing) == (2, 'error: closing fails. Do that.\n')


def test_a_verb_is_chosen_by_the_first_argument(run, config):
  seen = []
  verb = lambda call, *names: usage.Verb(call, 'Does it.', 'python x.py first', {'flags': names})
  verbs = {
    'first': verb(lambda: seen.append('first'), 'test_count_of'),
    'a_second': verb(lambda: seen.append(flags.FLAGS.test_count), 'test_count', 'test_count_of'),
  }
  call = lambda *argv: run(lambda verbs: command.run_verb(verbs, 'Does.'), verbs, *argv)
  assert call() == (0, '')
  assert call('a_second', '--test_count=5') == (0, '')
  assert call('--test_count=6', 'a_second') == (0, '')
  assert seen == ['first', 5, 6]
  want = (2, "error: Unknown verb: 'third'. Allowed: a_second, first.\n")
  assert call('third') == want
  want = (2, "error: Unknown arguments: 'x'. Allowed are flags: see --help.\n")
  assert call('a_second', 'x') == want
  want = (2, 'error: Got several verbs: a_second, first. Allowed is one.\n')
  assert call('a_second', 'first') == want
  code, err = call('first', '--test_count=5')
  assert code == 2
  assert err.startswith('error: first does not take --test_count; allowed are ')
  assert seen == ['first', 5, 6]


def test_help_says_what_a_command_and_a_verb_take(capsys, monkeypatch, config):
  verbs = {'one': usage.Verb(nothing, 'Does one.', 'python x.py one', {'numbers': ['test_count']})}
  monkeypatch.setenv('COLUMNS', '60')
  shown = []
  for argv in (['--help'], ['--test_nonsense', 'one', '-h']):
    monkeypatch.setattr(sys, 'argv', ['x.py', *argv])
    with pytest.raises(SystemExit, match='0'):
      command.run_verb(verbs, 'Does much.')
    shown.append(capsys.readouterr().out)
  whole = 'Does much.\n\nverbs:\n  one  Does one.\n\n'
  assert shown[0] == whole + 'python x.py VERB --help shows the flags of a verb and an example.\n'
  assert shown[1] == (
    'one: Does one.\n\n  python x.py one\n\nnumbers:\n'
    '  --test_count: The number of tests that are run one after\n'
    '      another. (a positive integer; default: 1)\n'
  )


def test_help_of_a_command_without_verbs_ends_well(capsys, monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['x.py', '--help'])
  with pytest.raises(SystemExit, match='0'):
    command.run(nothing, lambda: 'Does nothing.')
  assert capsys.readouterr().out.startswith('Does nothing.\n\nflags:\n')
  done = subprocess.run(
    [sys.executable, '-m', 'training.export', '--help'],
    capture_output=True,
    text=True,
    cwd=command.ROOT,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('Copies what sampling needs from a workdir')
  assert '\n  --workdir: ' in done.stdout


def test_lines_are_joined(capsys):
  with pytest.raises(SystemExit, match='2'):
    command.fail('one\n  two')
  assert capsys.readouterr().err == 'error: one two\n'
