"""The image that `launch/Dockerfile` describes has what `launch/gke.sh` runs."""

import json
import pathlib
import re

from packaging.version import Version

from tests.test_architecture import imported, parse
from tests.test_house import requirements

ROOT = pathlib.Path(__file__).resolve().parent.parent


def instructions() -> list[tuple[str, str]]:
  """The instructions of the Dockerfile with their arguments, in order."""
  text = (ROOT / 'launch/Dockerfile').read_text('utf-8')
  lines = [line for line in text.splitlines() if line and not line.startswith('#')]
  joined = '\n'.join(lines).replace('\\\n', ' ')
  return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def arguments(name: str) -> list[str]:
  return [argument for instruction, argument in instructions() if instruction == name]


def copied() -> list[str]:
  """The files and folders of the repository that are copied into the image."""
  return [source for argument in arguments('COPY') for source in argument.split()[:-1]]


def test_every_copied_file_exists_and_every_folder_keeps_its_name():
  for argument in arguments('COPY'):
    *sources, target = argument.split()
    assert all((ROOT / source).exists() for source in sources)
    # Docker copies the contents of a folder, and not the folder.
    folders = [source for source in sources if (ROOT / source).is_dir()]
    assert target == './' if not folders else sources == folders == [target]


def test_everything_that_the_scripts_import_is_copied():
  packages = {path.parent.name for path in ROOT.glob('*/__init__.py')}
  needed, todo = set(), {'train', 'sample', 'evaluate', 'configs'}
  while todo:
    name = todo.pop()
    needed.add(name)
    paths = (ROOT / name).rglob('*.py') if name in packages else [ROOT / f'{name}.py']
    for path in paths:
      todo |= set(imported(parse(path))) & packages - needed
  assert needed == {name.removesuffix('.py') for name in copied()} - {
    'requirements.txt',
    'constraints.txt',
  }


def test_its_python_is_one_that_gets_the_newest_jax():
  (image,) = arguments('FROM')
  python = re.fullmatch(r'python:(3\.\d+)-slim', image)[1]
  jax = lambda python: Version(next(iter(pins(python)['jax'].specifier)).version)
  assert jax(python) == max(map(jax, ('3.11', '3.12', '3.13', '3.14')))


def pins(python: str):
  return requirements('constraints.txt', python)


def test_requirements_are_installed_by_the_constraints_with_jax_for_the_accelerator():
  assert arguments('ARG') == ['JAX=jax[tpu]']
  install = [argument for argument in arguments('RUN') if 'pip install' in argument]
  (command,) = install
  assert command.endswith('-r requirements.txt "$JAX" -c constraints.txt')


def test_the_user_is_not_root_and_the_command_of_gke_starts_where_the_environment_is():
  names = [name for name, _ in instructions()]
  assert arguments('USER') == ['lumiere']
  assert names.index('USER') < names.index('WORKDIR') < names.index('COPY')
  python, script = json.loads(*arguments('CMD'))[:2]
  assert f'{python} $script $arguments' in (ROOT / 'launch/gke.sh').read_text('utf-8')
  assert script in copied()
