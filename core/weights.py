"""Reads and writes folders of safetensors in the format of Hugging Face, one tensor at a time."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from core.errors import UserError
from core.params import matches

SHARD_BYTES = 2 * 2**30
PICKLES = ('.bin', '.ckpt', '.pt', '.pth')
_DTYPES = {'BF16': jnp.bfloat16, 'F16': np.float16, 'F32': np.float32}


@dataclasses.dataclass(frozen=True)
class Stored:
  """A tensor in a file; `read` reads it."""

  path: pathlib.Path
  name: str
  shape: tuple[int, ...]
  dtype: np.dtype

  def read(self, index: tuple[slice, ...] = ()) -> np.ndarray:
    """The tensor, or the slice `index` of it."""
    with safe_open(self.path, 'np') as file:
      return file.get_slice(self.name)[index] if index else file.get_tensor(self.name)


def find(folder: pathlib.Path, ignored: Sequence[str] = ()) -> dict[str, Stored]:
  """All tensors in the files `*.safetensors` of a folder, by name, except those that match a
  pattern of `ignored`.

  ValueError if there is no such file, if a file is truncated, if a file in an index is missing, if
  two tensors have one name, and if a dtype is not float32, float16 or bfloat16.
  """
  if not folder.is_dir():
    raise UserError(f'There is no folder {folder}.')
  paths = sorted(folder.glob('*.safetensors'))
  if not paths:
    raise UserError(f'{folder} has no *.safetensors.{_hint_on_pickles(folder)}')
  tensors: dict[str, Stored] = {}
  for tensor in (tensor for path in paths for tensor in read_header(path, ignored)):
    if other := tensors.get(tensor.name):
      raise UserError(f'{tensor.name} is in both {other.path} and {tensor.path}.')
    tensors[tensor.name] = tensor
  for index in sorted(folder.glob('*.safetensors.index.json')):
    try:
      files = json.loads(index.read_text())['weight_map']
    except (json.JSONDecodeError, KeyError) as error:
      raise UserError(f'{index} is damaged: {error}.') from error
    if missing := sorted({f for f in files.values() if not (folder / f).is_file()}):
      raise UserError(f'{index} names {", ".join(missing)}, but there is no such file.')
    if missing := sorted(n for n in files.keys() - tensors.keys() if not matches(n, ignored)):
      raise UserError(f'{index} names tensors that no file has: {", ".join(missing)}.')
  return tensors


def require(
  source: pathlib.Path,
  tensors: Mapping[str, Stored],
  shapes: Mapping[str, Sequence[tuple[int, ...]]],
  kind: str,
) -> None:
  """Raises UserError unless exactly the tensors `shapes` are there, each of one of its shapes.

  source: the folder of the tensors, whose `config.json` determines the shapes.
  kind: what has these tensors, as `an encoder of T5 v1.1`.
  """
  missing, unused = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
  for problem, wrong in (('lacks', missing), ('also has', unused)):
    if wrong:
      raise UserError(f'{source} {problem} {", ".join(sorted(wrong))}: it is not {kind}.')
  for name, allowed in shapes.items():
    if (shape := tensors[name].shape) not in allowed:
      needed = ' or '.join(map(str, allowed))
      raise UserError(f'{name} in {source} has shape {shape}; its config.json needs {needed}.')


def _hint_on_pickles(folder):
  pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
  if not pickles:
    return ''
  return (
    f'  It has {", ".join(pickles)}, but pickles are not read because they can run any code; save '
    'the model again with safe_serialization=True.'
  )


def read_header(path: pathlib.Path, ignored: Sequence[str] = ()) -> Iterator[Stored]:
  """The tensors of a file, except those that match a pattern of `ignored`; errors as in `find`."""
  try:
    with safe_open(path, 'np') as file:
      for name in (name for name in file.keys() if not matches(name, ignored)):
        tensor = file.get_slice(name)
        if (dtype := tensor.get_dtype()) not in _DTYPES:
          allowed = ', '.join(sorted(_DTYPES))
          raise UserError(f'{path}: {name} has dtype {dtype}; allowed are {allowed}.')
        yield Stored(path, name, tuple(tensor.get_shape()), np.dtype(_DTYPES[dtype]))
  except SafetensorError as error:
    raise UserError(f'{path} is damaged or truncated: {error}.') from error


def write(folder: pathlib.Path, name: str, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
  """Writes tensors to `NAME.safetensors`, or if they are large to several files with an index."""
  files: list[list[str]] = []
  shard, shard_bytes, total = {}, 0, 0

  def flush():
    save_file(shard, folder / f'{name}-{len(files) + 1:05}.safetensors', {'format': 'pt'})
    files.append(list(shard))
    shard.clear()

  for key, value in tensors:
    if shard and shard_bytes + value.nbytes > SHARD_BYTES:
      flush()
      shard_bytes = 0
    shard[key] = np.ascontiguousarray(value)
    shard_bytes, total = shard_bytes + value.nbytes, total + value.nbytes
  flush()
  if len(files) == 1:
    (folder / f'{name}-00001.safetensors').rename(folder / f'{name}.safetensors')
    return
  weight_map = {}
  for i, names in enumerate(files, 1):
    file = f'{name}-{i:05}-of-{len(files):05}.safetensors'
    (folder / f'{name}-{i:05}.safetensors').rename(folder / file)
    weight_map |= dict.fromkeys(names, file)
  index = {'metadata': {'total_size': total}, 'weight_map': dict(sorted(weight_map.items()))}
  (folder / f'{name}.safetensors.index.json').write_text(json.dumps(index, indent=2) + '\n')
