"""The house keeps its shape: imports point down, rooms are small, and doors have names on them."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Each imports from those above it alone, so that those in one line do not know each other.
LEVELS = (
  {'core'},
  {'autoencoder', 'data', 'diffusion', 'stunet'},
  {'text'},
  {'ssr', 'training'},
  {'pipelines'},
  {'evaluation'},
  {'benchmarks', 'convert', 'evaluate', 'gallery', 'sample', 'train'},
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
PACKAGES = sorted(path.parent.name for path in ROOT.glob('*/__init__.py'))
LIBRARY = sorted(LEVEL.keys() & set(PACKAGES))
# The same within evaluation/, for its packages and modules.
EVALUATION_LEVELS = (
  {'curves', 'feature_statistics', 'features', 'folder', 'motion', 'protocol', 'shapes', 'ucf101'},
  {'clips', 'report', 'xt_slice'},
  {'samples', 'scores', 'user_study'},
  {'in_training'},
)
# Run in an environment of their own: of another library with which this project is compared, and
# of the one that wrote weights which are read here.
ELSEWHERE = (
  ROOT / 'benchmarks' / 'features_worker.py',
  ROOT / 'benchmarks' / 'lumiere_pytorch_worker.py',
  ROOT / 'evaluation' / 'features' / 'from_torch.py',
)
FORBIDDEN = ('tensorflow', 'torch', 'torchvision', 'keras')
MOST_LINES = 300


def files(*owners):
  """The files of packages and scripts."""
  for owner in owners:
    yield from (
      sorted((ROOT / owner).rglob('*.py')) if (ROOT / owner).is_dir() else [ROOT / f'{owner}.py']
    )


def imported_names(tree):
  """The dotted names that a file imports, at its head or in a function: modules and what is
  imported from them."""
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'line {node.lineno} is a relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)
    elif isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)


def imported(tree):
  """The top-level packages and modules that a file imports."""
  return (name.split('.')[0] for name in imported_names(tree))


def parse(path):
  return ast.parse(path.read_text('utf-8'))


def test_every_package_and_script_has_its_level():
  scripts = {path.stem for path in ROOT.glob('*.py')}
  assert {*PACKAGES, *scripts} - {'configs', 'tests'} <= LEVEL.keys()


@pytest.mark.parametrize('owner', sorted({*LIBRARY, *(p.stem for p in ROOT.glob('*.py'))}))
def test_imports_point_down(owner):
  for path in files(owner):
    for name in set(imported(parse(path))) & {*LEVEL, 'configs', 'tests'} - {owner}:
      where = f'{path.relative_to(ROOT)} imports {name}'
      # A config is data: scripts read one by its flag, and the converter writes one.
      if (owner, name) == ('convert', 'configs'):
        continue
      assert name not in ('configs', 'tests'), where
      assert LEVEL[name] < LEVEL[owner], where


def test_imports_within_evaluation_point_down():
  level = {name: level for level, names in enumerate(EVALUATION_LEVELS) for name in names}
  folder = ROOT / 'evaluation'
  owners = [path for path in folder.iterdir() if path.stem not in ('__init__', '__pycache__')]
  assert level.keys() == {path.stem for path in owners if path.suffix in ('', '.py')}
  for path in files('evaluation'):
    if path.parent == folder and path.stem == '__init__':
      continue
    owner = path.relative_to(folder).with_suffix('').parts[0]
    names = (name.split('.') for name in imported_names(parse(path)))
    for name in {parts[1] for parts in names if parts[0] == 'evaluation'} - {owner}:
      assert level[name] < level[owner], f'{path.relative_to(ROOT)} imports evaluation.{name}'


def test_no_module_of_evaluation_has_the_name_of_a_package():
  packages = {path.parent.name for path in (ROOT / 'evaluation').glob('*/__init__.py')}
  assert not (packages | set(PACKAGES)) & {path.stem for path in files('evaluation')}


def test_configs_import_configs_alone():
  for path in files('configs'):
    assert set(imported(parse(path))) <= {'configs', 'ml_collections'}, path.name


@pytest.mark.parametrize('owner', [*PACKAGES, *(p.stem for p in ROOT.glob('*.py'))])
def test_neither_tensorflow_nor_torch_is_imported(owner):
  for path in files(owner):
    if owner != 'tests' and path not in ELSEWHERE:  # tests may compare where they are there
      assert not set(imported(parse(path))) & set(FORBIDDEN), path.name


def test_no_package_is_a_corridor():
  names = {path.stem for package in PACKAGES for path in [ROOT / package, *files(package)]}
  assert not names & {
    'utils',
    'util',
    'common',
    'helpers',
    'helper',
    'misc',
    'registry',
    'base_model',
  }


def public(tree):
  """The public functions and classes of a file, and the public methods of these.

  A `main` is none: what a command does is said at the head of its file.
  """
  for node in tree.body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and not re.match('_|main$', node.name):
      yield node
      if isinstance(node, ast.ClassDef):
        yield from public(node)


@pytest.mark.parametrize('package', [*LIBRARY, 'configs'])
def test_all_that_is_public_says_what_it_is(package):
  for path in files(package):
    tree = parse(path)
    assert not tree.body or ast.get_docstring(tree), path.relative_to(ROOT)
    for node in public(tree):
      assert ast.get_docstring(node), f'{path.relative_to(ROOT)}:{node.lineno} {node.name}'


@pytest.mark.parametrize('package', PACKAGES)
def test_files_are_small(package):
  for path in files(package):
    lines = len(path.read_text('utf-8').splitlines())
    assert lines <= MOST_LINES, f'{path.relative_to(ROOT)} has {lines} lines'


def test_nothing_is_caught_without_a_word():
  """No handler of every error that goes on, or that does nothing."""
  for path in files(*LIBRARY, *(p.stem for p in ROOT.glob('*.py'))):
    for node in ast.walk(parse(path)):
      if isinstance(node, ast.ExceptHandler):
        where = f'{path.relative_to(ROOT)}:{node.lineno}'
        broad = node.type is None or getattr(node.type, 'id', '') in ('BaseException', 'Exception')
        raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        assert raises or not broad, where
        assert not all(isinstance(inner, ast.Continue | ast.Pass) for inner in node.body), where
