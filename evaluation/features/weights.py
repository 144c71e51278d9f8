"""Weights of feature networks: published files with their own names, or random weights."""

import dataclasses
import math
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from core import weights
from core.errors import UserError
from core.files import digest
from core.params import matches, nest
from core.typing import Params

RANDOM = re.compile(r'random:(\d+)')
FLOATS = ('float16', 'float32', 'float64')
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Naming:
  """The names and the layouts that a publisher gives to the parameters of a network."""

  publisher: str  # for messages
  # Patterns and replacements that turn our name into theirs, applied in order.  A name with `{a,b}`
  # means several tensors, which are concatenated along the last axis of ours.
  names: tuple[tuple[str, str], ...]
  # A pattern of our name, and their axes and ours, as in einops.
  layouts: tuple[tuple[str, str], ...] = ()
  ones: tuple[str, ...] = ()  # our parameters that are one there and have no tensor
  ignored: tuple[str, ...] = ()  # their tensors that are no parameters

  def theirs(self, name: str) -> tuple[str, ...]:
    """Their names of the tensors that make up our parameter."""
    if matches(name, self.ones):
      return ()
    for pattern, new in self.names:
      name = re.sub(pattern, new, name)
    if braces := re.search(r'\{(.*)\}', name):
      return tuple(name.replace(braces[0], part) for part in braces[1].split(','))
    return (name,)

  def axes(self, name: str) -> tuple[list[str], list[str]] | None:
    """Their axes of our parameter, and ours; None if they are the same."""
    for pattern, layout in self.layouts:
      if re.fullmatch(pattern, name):
        theirs, ours = layout.split('->')
        return theirs.split(), ours.split()
    return None


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor in a file."""

  shape: Shape
  read: Callable[[], np.ndarray]


def load(shapes: Mapping[str, Shape], namings: Sequence[Naming], source: str) -> tuple[Params, str]:
  """The parameters of a network, float32 on the host, and their identity.

  shapes: the shapes of all parameters, by name.
  source: `random:SEED`; or a file `.safetensors` or `.npz`, a folder of `.safetensors`, or several
    of these separated by commas.  The tensors have the names of one of the namings.

  The identity is `random:SEED`, or the SHA-256 of each file.  UserError where the source is none of
  these, and where a tensor is missing, left over or of another shape.
  """
  if match := RANDOM.fullmatch(source):
    return nest(draw(shapes, int(match[1]))), source
  files = paths(source)
  tensors = _read_tensors(files, [pattern for naming in namings for pattern in naming.ignored])
  naming = max(namings, key=lambda naming: len(tensors.keys() & _expected(naming, shapes)))
  expected = _expected(naming, shapes)
  for what, wrong in (
    ('lacks', expected - tensors.keys()),
    ('also has', tensors.keys() - expected),
  ):
    if wrong:
      raise UserError(
        f'{source} {what} {_few(wrong)}: nearest are the names of {naming.publisher}.'
      )
  params = {name: _convert(name, shape, naming, tensors, source) for name, shape in shapes.items()}
  return nest(params), digest(files)


def draw(shapes: Mapping[str, Shape], seed: int) -> dict[str, np.ndarray]:
  """Random parameters of a network that preserve the variance of activations.

  They are drawn in the order of their names: a kernel is normal with variance 2 / fan-in (He et
  al., 2015), an embedding is normal with variance 1.  Norms have mean 0, variance 1 and scale 1,
  and all biases are zero.
  """
  rng = np.random.default_rng(seed)
  drawn = {}
  for name in sorted(shapes):
    shape, kind = shapes[name], name.rpartition('/')[2]
    if kind.endswith(('embedding', 'kernel')):
      fan_in = math.prod(shape[:-1]) if kind == 'kernel' else 2
      drawn[name] = rng.standard_normal(shape, np.float32)
      drawn[name] *= np.float32(math.sqrt(2 / fan_in))
    else:
      drawn[name] = np.full(shape, float(kind in ('scale', 'var')), np.float32)
  return drawn


def paths(source: str) -> list[pathlib.Path]:
  """The files of a source; UserError where one does not exist or is of another kind."""
  files = []
  for part in source.split(','):
    path = pathlib.Path(part)
    if path.suffix in weights.PICKLES:
      raise UserError(
        f'{path} is a pickle, which can run any code when it is read; '
        'evaluation/features/from_torch.py makes a .safetensors of it.'
      )
    inside = sorted(path.glob('*.safetensors')) if part and path.is_dir() else []
    if not inside and path.suffix not in ('.npz', '.safetensors'):
      raise UserError(
        f'Got the weights {part!r}; allowed are files .safetensors and .npz, folders of the '
        'first, several of these with commas between, and random:SEED.'
      )
    files += inside or [path]
  for path in files:
    if not path.is_file():
      raise UserError(f'There is no file {path}.')
  return files


def _read_tensors(files, ignored) -> dict[str, Tensor]:
  tensors: dict[str, Tensor] = {}
  for path in files:
    for name, tensor in (_read_npz if path.suffix == '.npz' else _read_safetensors)(path, ignored):
      if name in tensors:
        raise UserError(f'{name} is in more than one of {", ".join(map(str, files))}.')
      tensors[name] = tensor
  return tensors


def _read_safetensors(path, ignored):
  for part in weights.read_header(path, ignored):
    yield part.name, Tensor(part.shape, part.read)


def _read_npz(path, ignored):
  if not zipfile.is_zipfile(path):
    raise UserError(f'{path} is damaged, or no .npz.')
  try:
    with np.load(path, allow_pickle=False) as file:
      for name in (name for name in file.files if not matches(name, ignored)):
        array = file[name]
        if array.dtype.name not in FLOATS:
          raise UserError(f'{name} is of {array.dtype}, and not one of {", ".join(FLOATS)}')
        yield name, Tensor(array.shape, lambda array=array: array)
  except (EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
    raise UserError(f'{path} is damaged, or no .npz of weights: {error}.') from error


def _expected(naming: Naming, shapes: Mapping[str, Shape]) -> set[str]:
  return {theirs for name in shapes for theirs in naming.theirs(name)}


def _convert(name, shape, naming, tensors, source) -> np.ndarray:
  """Our parameter, made of their tensors."""
  parts = naming.theirs(name)
  if not parts:
    return np.ones(shape, np.float32)
  if len(parts) > 1:
    shape = (*shape[:-1], shape[-1] // len(parts))
  theirs, ours = naming.axes(name) or ([], [])
  sizes = dict(zip(ours, shape))
  expected = tuple(sizes.get(axis, 1) for axis in theirs) if theirs else shape
  for part in parts:
    if tensors[part].shape != expected:
      raise UserError(
        f'{part} in {source} is of shape {tensors[part].shape}; it must be {expected}.'
      )
  order = [theirs.index(axis) for axis in ours]
  spare = [i for i, axis in enumerate(theirs) if axis == '1']
  arrays = (np.asarray(tensors[part].read(), np.float32) for part in parts)
  arrays = [a.transpose(*spare, *order).reshape(shape) if theirs else a for a in arrays]
  return np.asarray(np.concatenate(arrays, -1) if len(arrays) > 1 else arrays[0], order='C')


def _few(names: set[str], most: int = 8) -> str:
  more = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(sorted(names)[:most]) + more
