"""Checks that a checkpoint which is read is the one that was saved.

A checkpoint has a digest of every array.  It is computed on the devices before the checkpoint is
saved and again after it is restored, so that every change in between is detected, on any mesh.
When a checkpoint is complete, the sizes and checksums of its files are listed in `files.json`, so
that damage can be detected without reading all files.
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
SMALL = 2**20  # bytes; larger files have no checksum, since the digest covers the arrays in them


def digest(tree) -> dict[str, int]:
  """A number for each array by its name, which depends on every bit and its position.

  Sums wrap around in 32 bits, so that the order of summation, and so the sharding, does not matter.
  """
  paths, arrays = zip(*jax.tree_util.tree_leaves_with_path(tree))
  names = [jax.tree_util.keystr(path, simple=True, separator='/') for path in paths]
  return dict(zip(names, np.asarray(_digests(arrays)).tolist()))


@jax.jit
def _digests(arrays):
  return jnp.stack([_sum(x) for x in arrays])


@jax.jit  # traced once for all arrays of a shape
def _sum(x):
  """The sum of the words of an array, each multiplied by an odd number that its index decides."""
  if x.dtype.itemsize > 4:
    x = jax.lax.bitcast_convert_type(x, jnp.uint32)  # with one more axis
  words = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, f'uint{8 * x.dtype.itemsize}')
  words = words.astype(jnp.uint32)
  index = jnp.zeros((), jnp.uint32)
  for axis, size in enumerate(x.shape):
    index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
  mixed = (words ^ (words >> 15)) * (index * jnp.uint32(2_654_435_762) + jnp.uint32(0x9E3779B1))
  return jnp.sum(mixed ^ (mixed >> 13), dtype=jnp.uint32)


def compare(tree, saved: dict[str, int]) -> str:
  """What is wrong with the arrays, '' if nothing is; `saved` is their digest before the save."""
  new = digest(tree)
  differ = sorted(name for name in new.keys() | saved.keys() if new.get(name) != saved.get(name))
  few = ', '.join(differ[:5]) + ('' if len(differ) <= 5 else ' and others')
  return f'{len(differ)} arrays differ from what was saved: {few}' if differ else ''


def seal(checkpoints: pathlib.Path) -> None:
  """Writes the list of files of every complete checkpoint that has no list yet."""
  if jax.process_index() > 0:
    return
  for folder in checkpoints.iterdir():
    if folder.name.isdigit() and not (folder / FILES).exists():
      files = _list_files(folder)
      with new_file(folder / FILES) as file:
        file.write_text(json.dumps({'files': files, 'checksum': _checksum(files)}, indent=1))


def damage(folder: pathlib.Path) -> str:
  """What is wrong with the files of a complete checkpoint, '' if nothing is.

  Without a list there is nothing to compare with; the digest will show damage.
  """
  path, present = folder / FILES, _list_files(folder)
  if not path.exists():
    return ''
  try:
    contents = json.loads(path.read_text())
    wanted = contents['files']
    if contents['checksum'] != _checksum(wanted):
      return f'{FILES} has another checksum'
  except (ValueError, KeyError, TypeError):
    return f'{FILES} cannot be read'
  problems = [f'{name} is missing' for name in sorted(wanted.keys() - present.keys())]
  for name in sorted(wanted.keys() & present.keys()):
    wanted_size, size = wanted[name][0], present[name][0]
    if wanted_size != size:
      problems.append(f'{name} has {size} bytes in place of {wanted_size}')
    elif wanted[name] != present[name]:
      problems.append(f'{name} has another checksum')
  return '; '.join(problems[:5]) + ('' if len(problems) <= 5 else f'; {len(problems)} in all')


def fingerprint(folder: pathlib.Path) -> str:
  """An identifier of the files in a folder, computed without reading the large ones.

  Orbax gives these random names, so that no two saves have the same identifier.
  """
  return hashlib.sha256(json.dumps(_list_files(folder)).encode()).hexdigest()[:12]


def _list_files(folder):
  """The size and the checksum of each file by its name; the checksum of a large file is 0."""
  files = (path for path in sorted(folder.rglob('*')) if path.is_file())
  return {str(p.relative_to(folder)): _size_and_checksum(p) for p in files if FILES not in p.name}


def _size_and_checksum(path):
  size = path.stat().st_size
  return [size, zlib.crc32(path.read_bytes()) if size <= SMALL else 0]


def _checksum(files) -> int:
  return zlib.crc32(json.dumps(files).encode())


def strays(checkpoints: pathlib.Path) -> list[pathlib.Path]:
  """Folders among the checkpoints that are none: interrupted saves, and renamed checkpoints."""
  paths = checkpoints.iterdir() if checkpoints.is_dir() else ()
  folders = (path for path in paths if path.is_dir())
  return sorted(path for path in folders if not path.name.isdigit())


def sweep(checkpoints: pathlib.Path) -> None:
  """Removes interrupted saves; not to be called while a checkpoint is being saved."""
  if jax.process_index() == 0:
    for path in unfinished(checkpoints):
      shutil.rmtree(path, ignore_errors=True)


def unfinished(checkpoints: pathlib.Path) -> list[pathlib.Path]:
  """The interrupted saves among the checkpoints."""
  return [path for path in strays(checkpoints) if 'orbax-checkpoint-tmp' in path.name]


def set_aside(folder: pathlib.Path) -> pathlib.Path:
  """Moves a damaged checkpoint away, to make room for another of the same step; returns the target.

  OSError, in all processes, if it cannot be moved.
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
