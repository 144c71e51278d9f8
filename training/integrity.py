"""Whether what is read is what was saved.

A checkpoint has a digest of every array, computed on the devices before it was saved and again
after it was restored: nothing that happens between the two goes unseen, on any mesh.  Once it is
finished, its files are listed with their sizes and checksums in `files.json`, so that damage is
found without reading all of it.
"""

import hashlib
import json
import pathlib
import shutil
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from core.errors import UserFileError
from core.folder import new_file
from training.agreement import agreed

FILES = 'files.json'
SMALL = 2**20  # bytes: of larger files the size alone is listed, for the digest covers arrays


def digest(tree) -> dict[str, int]:
  """A number for each array by its name, in which every bit and its place counts.

  Sums wrap around in 32 bits, so that their order, and the sharding, makes no difference.
  """
  paths, arrays = zip(*jax.tree_util.tree_leaves_with_path(tree))
  names = [jax.tree_util.keystr(path, simple=True, separator='/') for path in paths]
  return dict(zip(names, np.asarray(_digests(arrays)).tolist()))


@jax.jit
def _digests(arrays):
  return jnp.stack([_sum(x) for x in arrays])


@jax.jit  # traced once for all arrays of a shape
def _sum(x):
  """Of the bits of an array, each word multiplied by an odd number that its place decides."""
  if x.dtype.itemsize > 4:
    x = jax.lax.bitcast_convert_type(x, jnp.uint32)  # has one axis more
  words = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, f'uint{8 * x.dtype.itemsize}')
  words = words.astype(jnp.uint32)
  place = jnp.zeros((), jnp.uint32)
  for axis, size in enumerate(x.shape):
    place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
  mixed = (words ^ (words >> 15)) * (place * jnp.uint32(2_654_435_762) + jnp.uint32(0x9E3779B1))
  return jnp.sum(mixed ^ (mixed >> 13), dtype=jnp.uint32)


def compare(tree, saved: dict[str, int]) -> str:
  """What is wrong with the arrays, by their digest when they were saved; '' if nothing is."""
  got = digest(tree)
  differ = sorted(name for name in got.keys() | saved.keys() if got.get(name) != saved.get(name))
  few = ', '.join(differ[:5]) + ('' if len(differ) <= 5 else ' and others')
  return f'{len(differ)} arrays differ from what was saved: {few}' if differ else ''


def seal(checkpoints: pathlib.Path) -> None:
  """Lists the files of every finished checkpoint that has no list yet."""
  if jax.process_index() > 0:
    return
  for folder in checkpoints.iterdir():
    if folder.name.isdigit() and not (folder / FILES).exists():
      files = _listed(folder)
      with new_file(folder / FILES) as file:
        file.write_text(json.dumps({'files': files, 'checksum': _checksum(files)}, indent=1))


def damage(folder: pathlib.Path) -> str:
  """What is wrong with the files of a finished checkpoint, '' if nothing is.

  One that was not listed yet has nothing to compare with: its digest alone will tell.
  """
  listed, found = folder / FILES, _listed(folder)
  if not listed.exists():
    return ''
  try:
    facts = json.loads(listed.read_text())
    wanted = facts['files']
    if facts['checksum'] != _checksum(wanted):
      return f'{FILES} has another checksum'
  except (ValueError, KeyError, TypeError):
    return f'{FILES} cannot be read'
  problems = [f'{name} is missing' for name in sorted(wanted.keys() - found.keys())]
  for name in sorted(wanted.keys() & found.keys()):
    size, got = wanted[name][0], found[name][0]
    if size != got:
      problems.append(f'{name} has {got} bytes in place of {size}')
    elif wanted[name] != found[name]:
      problems.append(f'{name} has another checksum')
  return '; '.join(problems[:5]) + ('' if len(problems) <= 5 else f'; {len(problems)} in all')


def fingerprint(folder: pathlib.Path) -> str:
  """What tells the files of a folder from those of others, without reading the large ones.

  Orbax draws a name for each of these, so that no two times it saves are alike.
  """
  return hashlib.sha256(json.dumps(_listed(folder)).encode()).hexdigest()[:12]


def _listed(folder):
  """The size of each file, and of the small ones a checksum."""
  files = (path for path in sorted(folder.rglob('*')) if path.is_file())
  return {str(p.relative_to(folder)): _facts(p) for p in files if FILES not in p.name}


def _facts(path):
  size = path.stat().st_size
  return [size, zlib.crc32(path.read_bytes()) if size <= SMALL else 0]


def _checksum(files) -> int:
  return zlib.crc32(json.dumps(files).encode())


def strays(checkpoints: pathlib.Path) -> list[pathlib.Path]:
  """What is among the checkpoints and is none: saves that were cut short, folders renamed."""
  found = checkpoints.iterdir() if checkpoints.is_dir() else ()
  folders = (path for path in found if path.is_dir())
  return sorted(path for path in folders if not path.name.isdigit())


def sweep(checkpoints: pathlib.Path) -> None:
  """Removes what is left of saves that were cut short, while nothing is being saved."""
  if jax.process_index() == 0:
    for path in unfinished(checkpoints):
      shutil.rmtree(path, ignore_errors=True)


def unfinished(checkpoints: pathlib.Path) -> list[pathlib.Path]:
  """The saves among them that were cut short."""
  return [path for path in strays(checkpoints) if 'orbax-checkpoint-tmp' in path.name]


def set_aside(folder: pathlib.Path) -> pathlib.Path:
  """Moves a damaged checkpoint out of the way of the next of the same step; returns where.

  OSError, in all processes, where it can't.
  """
  to = folder.parent.parent / 'damaged' / f'{folder.name}_{time.strftime("%Y%m%d_%H%M%S")}'
  problem = ''
  if jax.process_index() == 0:
    try:
      to.parent.mkdir(exist_ok=True)
      folder.rename(to)
    except OSError as error:
      problem = str(error)
  if problem := agreed(problem):
    raise UserFileError(f'Cannot move {folder}, which is damaged, to {to}: {problem}.')
  return to
