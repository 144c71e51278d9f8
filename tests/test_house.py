"""The project's own files say the same as its code."""

import ast
import functools
import pathlib
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parent.parent
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


installed = functools.cache(metadata.packages_distributions)  # it reads every package


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
  providers = installed()
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


def test_requirements_are_what_the_code_imports():
  required = requirements('requirements.txt').keys()
  imported = distributions(
    p for p in SOURCES if not p.is_relative_to(ROOT / 'tests') and p not in ELSEWHERE
  )
  optional = {
    name
    for part in ('tracking', 'data', 'beam')
    for name in requirements(f'requirements-{part}.txt')
  }
  assert imported - optional == required - NOT_IMPORTED


def test_tracking_requirements_are_what_one_file_imports():
  optional = requirements('requirements-tracking.txt').keys()
  importing = [path for path in SOURCES if distributions([path]) & optional]
  assert importing == [ROOT / 'training' / 'trackers.py']
  assert distributions(importing) >= optional


@pytest.mark.parametrize('part', ['data', 'beam'])
def test_data_requirements_are_what_the_builder_imports_where_it_needs_them(part):
  optional = requirements(f'requirements-{part}.txt').keys()
  importing = [
    path
    for path in SOURCES
    if not path.is_relative_to(ROOT / 'tests') and distributions([path]) & optional
  ]
  assert distributions(importing) >= optional
  for path in importing:
    assert path.parent == ROOT / 'data'
    at_import = ast.Module(ast.parse(path.read_text('utf-8')).body, [])
    names = {a.name for n in at_import.body if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in at_import.body if isinstance(n, ast.ImportFrom)}
    assert not {name.split('.')[0] for name in names} & optional, path


def test_development_requirements_are_what_tests_import_besides():
  required = requirements('requirements-dev.txt').keys()
  imported = distributions(
    p for p in SOURCES if p.is_relative_to(ROOT / 'tests') and p not in PARITY
  )
  known = requirements('requirements.txt') | requirements('requirements-data.txt')
  assert imported - known.keys() == required - NOT_IMPORTED


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
