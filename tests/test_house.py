"""The project's own files say the same as its code."""

import ast
import importlib
import pathlib
import re
import shlex
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / 'README.md').read_text('utf-8')
SOURCES = sorted(p for p in [*ROOT.glob('*.py'), *ROOT.glob('[a-z]*/**/*.py')])
# Run in an environment of their own: of another library with which this project is compared, and
# of the one that wrote weights which are read here.
ELSEWHERE = (
  ROOT / 'benchmarks' / 'features_worker.py',
  ROOT / 'benchmarks' / 'lumiere_pytorch_worker.py',
  ROOT / 'evaluation' / 'features' / 'from_torch.py',
)
# Compared with other libraries, in an environment that has them: make test-parity.
PARITY = sorted((ROOT / 'tests' / 'parity').glob('*.py'))
FOLDERS = sorted({p.relative_to(ROOT).parts[0] for p in SOURCES if p.parent != ROOT})
SCRIPTS = sorted(p.stem for p in ROOT.glob('*.py'))

PYTHONS = ('3.11', '3.12', '3.13', '3.14')  # the versions that are supported

# Required without an import: what needs them is a library, an option of pytest, or a command.
NOT_IMPORTED = {'beartype', 'pytest-xdist', 'ruff'}


def requirements(file: str, python: str | None = None) -> dict[str, Requirement]:
  """The requirements of a file by name, for a version of Python like `3.13`, or for this one."""
  lines = (line.split('#')[0].strip() for line in (ROOT / file).read_text().splitlines())
  parsed = [Requirement(line) for line in lines if line and not line.startswith('-')]
  environment = {'python_version': python} if python else None
  chosen = [r for r in parsed if r.marker is None or r.marker.evaluate(environment)]
  names = [canonicalize_name(r.name) for r in chosen]
  assert len(names) == len(set(names)), f'{file} has a package twice for Python {python}'
  return dict(zip(names, chosen))


def distributions(paths) -> set[str]:
  """The packages which the files import, by the names by which they are installed."""
  modules = set()
  for path in paths:
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
      if isinstance(node, ast.Import):
        modules |= {alias.name.split('.')[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        modules.add(node.module.split('.')[0])
  modules -= sys.stdlib_module_names | {*FOLDERS, *SCRIPTS}
  providers = metadata.packages_distributions()
  return {canonicalize_name(providers.get(module, [module])[0]) for module in modules}


def closure(required: list[Requirement]) -> set[str]:
  """The names of all that is installed with them here."""
  seen, todo = set(), list(required)
  while todo:
    one = todo.pop()
    key = canonicalize_name(one.name), *sorted(one.extras)
    if key in seen:
      continue
    seen.add(key)
    for line in metadata.requires(one.name) or []:
      brought = Requirement(line)
      environments = [{'extra': extra} for extra in ('', *one.extras)]
      if brought.marker is None or any(map(brought.marker.evaluate, environments)):
        todo.append(brought)
  return {name for name, *_ in seen}


def commands() -> list[list[str]]:
  """Those of README.md's shell blocks, as lists of words."""
  blocks = re.findall(r'```sh\n(.*?)```', README, re.DOTALL)
  lines = ''.join(blocks).replace('\\\n', ' ').splitlines()
  return [words for line in lines if (words := shlex.split(line, comments=True))]


PYTHON = [words[1:] for words in commands() if words[0] == 'python']


def flags_of(path: str | pathlib.Path) -> set[str]:
  """The names of the flags which a script defines."""
  calls = [
    n for n in ast.walk(ast.parse(pathlib.Path(path).read_text('utf-8'))) if isinstance(n, ast.Call)
  ]
  names = ((getattr(call.func, 'attr', ''), call.args) for call in calls)
  return {args[0].value for name, args in names if name.startswith('DEFINE_')}


def test_requirements_are_what_the_code_imports():
  required = requirements('requirements.txt').keys()
  imported = distributions(p for p in SOURCES if 'tests' not in p.parts and p not in ELSEWHERE)
  assert imported - requirements('requirements-tracking.txt').keys() == required - NOT_IMPORTED


def test_tracking_requirements_are_what_one_file_imports():
  optional = requirements('requirements-tracking.txt').keys()
  importing = [path for path in SOURCES if distributions([path]) & optional]
  assert importing == [ROOT / 'training' / 'trackers.py']
  assert distributions(importing) >= optional


def test_development_requirements_are_what_tests_import_besides():
  required = requirements('requirements-dev.txt').keys()
  imported = distributions(p for p in SOURCES if 'tests' in p.parts and p not in PARITY)
  assert imported - requirements('requirements.txt').keys() == required - NOT_IMPORTED


def test_parity_requirements_are_what_those_tests_import_besides():
  known = requirements('requirements.txt').keys() | requirements('requirements-dev.txt').keys()
  assert distributions(PARITY) - known == requirements('requirements-parity.txt').keys()


def test_constraints_pin_all_that_is_installed():
  required = requirements('requirements.txt') | requirements('requirements-dev.txt')
  assert closure(list(required.values())) <= requirements('constraints.txt').keys()


@pytest.mark.parametrize('python', PYTHONS)
def test_constraints_are_exact_versions_that_the_requirements_allow(python):
  required = requirements('requirements.txt') | requirements('requirements-dev.txt')
  pins = requirements('constraints.txt', python)
  assert required.keys() <= pins.keys()
  for name, pin in pins.items():
    (version,) = pin.specifier
    assert version.operator == '=='
    assert name not in required or version.version in required[name].specifier


def test_only_python_3_11_gets_an_older_jax():
  jax = [requirements('constraints.txt', python)['jax'].specifier for python in PYTHONS]
  assert [str(version) for version in jax] == ['==0.10.2'] + ['==0.12.0.1'] * 3


def test_no_tensorflow_and_no_torch():
  pins = requirements('constraints.txt')
  assert not pins.keys() & {'tensorflow', 'tensorflow-cpu', 'tf-nightly', 'torch'}


@pytest.mark.parametrize('words', PYTHON, ids=' '.join)
def test_a_command_of_the_readme_has_flags_of_its_script(words):
  file = words[1].replace('.', '/') + '.py' if words[0] == '-m' else words[0]
  given = {word[2:].split('=')[0] for word in words if word.startswith('--')}
  assert {name for name in given if not name.startswith('config.')} <= flags_of(ROOT / file)


def test_configs_and_their_keys_in_the_readme_are_there():
  trained = [words for words in PYTHON if any(w.startswith('--config=') for w in words)]
  assert trained
  opened = []
  for words in trained:
    flags = dict(word[2:].split('=', 1) for word in words[1:] if '=' in word)
    stage, scale = re.fullmatch(r'configs/(\w+)\.py:(\w+)', flags['config']).groups()
    opened.append(importlib.import_module(f'configs.{stage}').get_config(scale))
    for flag in flags:
      if flag.startswith('config.'):
        assert has(opened[-1], flag)
  for key in re.findall(r'--(config\.[a-z_.]+)=', README):
    assert any(has(config, key) for config in opened), key


def has(config, flag: str) -> bool:
  """Whether the config has the key that `config.loader.batch` and the like name."""
  for key in flag.split('.')[1:]:
    if key not in config:
      return False
    config = config[key]
  return True


def test_options_in_the_text_of_the_readme_are_there():
  known = set().union(*map(flags_of, SOURCES))
  assert set(re.findall(r'`--([a-z_]+)', README)) <= known


def test_the_readme_has_commands_of_every_script():
  run = {words[1] if words[0] == '-m' else words[0] for words in PYTHON}
  assert run >= {'data.builder', 'benchmarks.initialisation', *(f'{s}.py' for s in SCRIPTS)}


def test_targets_of_make_and_links_and_folders_of_the_readme_are_there():
  targets = re.findall(r'^([a-z]+):.*## ', (ROOT / 'Makefile').read_text(), re.MULTILINE)
  assert {words[1] for words in commands() if words[0] == 'make'} <= set(targets)
  for link in re.findall(r'\]\(([^):#]+)\)', README):
    assert (ROOT / link).is_file()
  house = README.split('## The house')[1].split('\n## ')[0]
  assert {f'{name}/' for name in FOLDERS} <= set(re.findall(r'`([a-z]+/)`', house))
  assert {f'{name}.py' for name in SCRIPTS} <= set(re.findall(r'`([a-z]+\.py)`', house))
