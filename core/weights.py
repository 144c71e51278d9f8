"""Folders of weights in safetensors, as Hugging Face writes them: found whole, read one by one."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence

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
  """A tensor in a file, of which nothing was read yet."""

  path: pathlib.Path
  name: str
  shape: tuple[int, ...]
  dtype: np.dtype

  def read(self, index: tuple[slice, ...] = ()) -> np.ndarray:
    """The tensor, or a part of it."""
    with safe_open(self.path, 'np') as file:
      return file.get_slice(self.name)[index] if index else file.get_tensor(self.name)


def find(folder: pathlib.Path) -> dict[str, Stored]:
  """All tensors in the files `*.safetensors` of a folder, by name.

  ValueError where there is none, where a file is cut short or one that an index names is missing,
  where a name is there twice, and where numbers are not float32, float16 or bfloat16.
  """
  if not folder.is_dir():
    raise UserError(f'There is no folder {folder}.')
  paths = sorted(folder.glob('*.safetensors'))
  if not paths:
    raise UserError(f'{folder} has no *.safetensors.{_of_pickles(folder)}')
  found: dict[str, Stored] = {}
  for stored in (stored for path in paths for stored in listed(path)):
    if twice := found.get(stored.name):
      raise UserError(f'{stored.name} is in both {twice.path} and {stored.path}.')
    found[stored.name] = stored
  for index in sorted(folder.glob('*.safetensors.index.json')):
    try:
      files = json.loads(index.read_text())['weight_map']
    except (json.JSONDecodeError, KeyError) as error:
      raise UserError(f'{index} is damaged: {error}.') from error
    if missing := sorted({f for f in files.values() if not (folder / f).is_file()}):
      raise UserError(f'{index} names {", ".join(missing)}, and there is no such file.')
    if missing := sorted(files.keys() - found.keys()):
      raise UserError(f'{index} names tensors that are in no file: {", ".join(missing)}.')
  return found


def _of_pickles(folder):
  pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
  if not pickles:
    return ''
  return (
    f'  It has {", ".join(pickles)}: a pickle can run any code when it is read, so none is; save '
    'the model again with safe_serialization=True.'
  )


def listed(path: pathlib.Path, ignored: Sequence[str] = ()) -> Iterator[Stored]:
  """The tensors of one file, but those whose names one of the patterns matches; errors as above."""
  try:
    with safe_open(path, 'np') as file:
      for name in (name for name in file.keys() if not matches(name, ignored)):
        part = file.get_slice(name)
        if (kind := part.get_dtype()) not in _DTYPES:
          allowed = ', '.join(sorted(_DTYPES))
          raise UserError(f'{path}: {name} is of {kind}; allowed are {allowed}.')
        yield Stored(path, name, tuple(part.get_shape()), np.dtype(_DTYPES[kind]))
  except SafetensorError as error:
    raise UserError(f'{path} is damaged or cut short: {error}.') from error


def write(folder: pathlib.Path, name: str, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
  """Writes `NAME.safetensors`, or several with an index where they are large, as they come."""
  files: list[list[str]] = []
  shard, held, total = {}, 0, 0

  def flush():
    save_file(shard, folder / f'{name}-{len(files) + 1:05}.safetensors', {'format': 'pt'})
    files.append(list(shard))
    shard.clear()

  for key, value in tensors:
    if shard and held + value.nbytes > SHARD_BYTES:
      flush()
      held = 0
    shard[key] = np.ascontiguousarray(value)
    held, total = held + value.nbytes, total + value.nbytes
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
