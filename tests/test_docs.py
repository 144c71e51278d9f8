"""The README and the pages of docs/ say what the code does: commands, options, keys, links."""

import ast
import functools
import importlib
import pathlib
import re

import pytest

from benchmarks import docs
from benchmarks.docs import commands, pages, reason_not_to_run, substituted

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text('utf-8') for page in pages()}
README, CONTRIBUTING = TEXTS['README.md'], (ROOT / 'CONTRIBUTING.md').read_text('utf-8')
SOURCES = sorted(p for p in [*ROOT.glob('*.py'), *ROOT.glob('[a-z]*/**/*.py')])
FOLDERS = sorted({p.relative_to(ROOT).parts[0] for p in SOURCES if p.parent != ROOT})
SCRIPTS = sorted(p.stem for p in ROOT.glob('*.py'))
COMMANDS = [(page, words) for page, text in TEXTS.items() for words in commands(text)]
PYTHON = [(page, words[1:]) for page, words in COMMANDS if words[0] == 'python']


def script_of(words):
  """The file that the words after `python` run."""
  return ROOT / (words[1].replace('.', '/') + '.py' if words[0] == '-m' else words[0])


@functools.cache
def flags_of(path: str | pathlib.Path) -> set[str]:
  """The names of the flags which a script defines."""
  calls = [
    n for n in ast.walk(ast.parse(pathlib.Path(path).read_text('utf-8'))) if isinstance(n, ast.Call)
  ]
  names = ((getattr(call.func, 'attr', ''), call.args) for call in calls)
  return {args[0].value for name, args in names if name.startswith('DEFINE_')}


@pytest.mark.parametrize(
  ('page', 'words'), PYTHON, ids=lambda x: x if isinstance(x, str) else ' '.join(x)
)
def test_a_command_has_flags_of_its_script(page, words):
  flags = {word[2:].split('=')[0] for word in words if word.startswith('--')}
  named = {name for name in flags if not name.startswith('config.')}
  assert named <= flags_of(script_of(words)), page


def test_configs_and_their_keys_are_there():
  configs = []
  for page, words in PYTHON:
    flags = dict(word[2:].split('=', 1) for word in words[1:] if '=' in word)
    for flag in ('config', 'ssr_config'):
      if flag in flags:
        stage, scale = re.fullmatch(r'configs/(\w+)\.py:(\w+)', flags[flag]).groups()
        configs.append(importlib.import_module(f'configs.{stage}').get_config(scale))
    for flag in flags:
      assert not flag.startswith('config.') or has(configs[-1], flag), (page, flag)
  assert configs
  for page, text in TEXTS.items():
    for key in re.findall(r'--(config\.[a-z_.]+)=', text):
      assert any(has(config, key) for config in configs), (page, key)


def has(config, flag: str) -> bool:
  """Whether the config has the key that `config.loader.batch` and the like name."""
  for key in flag.split('.')[1:]:
    if key not in config:
      return False
    config = config[key]
  return True


@pytest.mark.parametrize('page', TEXTS)
def test_options_in_the_text_are_there(page):
  launch = ' '.join(p.read_text('utf-8') for p in (ROOT / 'launch').glob('*.sh'))
  known = set().union(*map(flags_of, SOURCES)) | set(re.findall(r'--([a-z_]+)', launch))
  known |= {'help', 'config', 'ssr_config', 'to_diffusers'}
  options = re.findall(r'`--([a-z_0-9]+)(?![a-z_0-9-])', TEXTS[page])
  assert set(options) <= known


@pytest.mark.parametrize('page', [*TEXTS, 'CONTRIBUTING.md'])
def test_links_and_pictures_are_there(page):
  text = (ROOT / page).read_text('utf-8')
  for link in re.findall(r'\]\(([^):#]+)[)#]', text) + re.findall(r'src="([^"]+)"', text):
    assert ((ROOT / page).parent / link).is_file(), link


def test_the_readme_is_a_front_page():
  """At most 130 lines, a link to each page, and a command of every script."""
  assert len(README.splitlines()) <= 130
  assert {page for page in TEXTS if page != 'README.md'} <= set(
    re.findall(r'\((docs/\w+\.md)', README)
  )
  run = {words[0] for page, words in PYTHON if page == 'README.md'}
  assert run | set(re.findall(r'`python (\w+\.py)', README)) >= {f'{s}.py' for s in SCRIPTS}
  modules = {words[1] for _, words in PYTHON if words[0] == '-m'}
  assert modules >= {'data.builder', 'benchmarks.initialisation', 'training.export'}


def test_targets_of_make_are_there():
  targets = re.findall(r'^([a-z-]+):.*## ', (ROOT / 'Makefile').read_text(), re.MULTILINE)
  assert {words[1] for _, words in COMMANDS if words[0] == 'make'} <= set(targets)


def test_folders_and_scripts_have_their_line():
  table = CONTRIBUTING.split('## Where things go')[1].split('\n## ')[0]
  assert {f'{name}/' for name in FOLDERS} <= set(re.findall(r'`([a-z]+/)`', table))
  assert {f'{name}.py' for name in SCRIPTS} <= set(re.findall(r'`([a-z]+\.py)`', table))


def test_a_command_of_several_pages_is_run_once():
  distinct = {tuple(words) for _, words in COMMANDS}
  ran = [tuple(words) for _, words in docs.examples([]) if '-c' not in words]
  assert len(COMMANDS) > len(distinct)
  assert sorted(ran) == sorted(distinct)


def test_every_command_is_run_or_says_why_not():
  for page, words in COMMANDS:
    assert words[0] == 'python' or reason_not_to_run(words), (page, words)


def test_files_of_the_user_are_neither_linked_nor_written(tmp_path, monkeypatch):
  """Though they lie in the repository, under the names of the inputs."""
  root, folder = tmp_path / 'repository', tmp_path / 'scratch'
  (root / 'clips').mkdir(parents=True)
  (root / 'core').mkdir()
  folder.mkdir()
  users = [root / 'clips' / 'captions.jsonl', root / 'photo.jpg', root / 'IF-in-neon']
  for path in [*users, root / 'sample.py']:
    path.write_text('mine')
  monkeypatch.setattr(docs.command, 'ROOT', root)
  docs.prepare(folder)
  assert [path.read_text() for path in users] == ['mine'] * 3
  assert [path.name for path in (root / 'clips').iterdir()] == ['captions.jsonl']
  assert {path.name for path in folder.iterdir() if path.is_symlink()} == {'core', 'sample.py'}


def test_commands_see_every_folder_with_code_and_write_to_none():
  assert set(docs.LINKED) == {*FOLDERS, 'checkpoints'} - {'tests'}
  for page, words in COMMANDS:
    if reason_not_to_run(words):
      continue
    written = [w.split('=')[1] for w in substituted(words) if w.startswith(('--out=', '--output='))]
    assert not [path for path in written if path.split('/')[0] in docs.LINKED], page


def test_commands_are_cut_out_joined_and_shortened():
  text = (
    "```sh\npython a.py --x='b c' \\\n  --y=1   # why\nmake demo\n```\n```python\nimport this\n```"
  )
  assert commands(text) == [['python', 'a.py', '--x=b c', '--y=1'], ['make', 'demo']]
  words = ['python', 'train.py', '--config=configs/t2i.py:demo', '--workdir=runs/a']
  short = substituted(words)
  assert '--config=configs/t2i.py:tiny' in short
  assert '--config.steps=2' in short


def test_the_python_of_the_readme_names_what_is_there():
  (block,) = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
  for node in ast.walk(ast.parse(block)):
    if isinstance(node, ast.ImportFrom):
      module = importlib.import_module(node.module)
      for alias in node.names:
        assert hasattr(module, alias.name) or importlib.import_module(f'{node.module}.{alias.name}')
