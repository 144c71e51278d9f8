"""Turns weights that torch wrote into .safetensors, with their names as they are.

python evaluation/features/from_torch.py i3d.pt i3d.safetensors

Runs in an environment of its own, with torch and safetensors, and needs nothing of this project:
what the names mean is known to those who read the file.  The first is a pickle of tensors (.pt,
.pth), of which no code is run, or a TorchScript; what is in it under `state_dict` or `model` is
taken, if all of it is there.
"""

import os
import pathlib
import pickle
import sys
import zipfile

import torch
from safetensors.torch import save_file


def named(path: pathlib.Path) -> dict[str, torch.Tensor]:
  """The tensors in a file, by name; ValueError where it has none, or other things besides."""
  if not path.is_file():
    raise ValueError(f'there is no file {path}.')
  try:
    if _is_script(path):
      return torch.jit.load(path, map_location='cpu').state_dict()
    found = torch.load(path, map_location='cpu', weights_only=True)
  except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
    raise ValueError(f'{path} is damaged, or has more than tensors: {error}') from error
  for key in ('state_dict', 'model'):
    if isinstance(found, dict) and isinstance(found.get(key), dict):
      found = found[key]
  if not isinstance(found, dict) or not found:
    raise ValueError(f'{path} has no tensors with names.')
  if other := sorted(str(n) for n, x in found.items() if not isinstance(x, torch.Tensor)):
    raise ValueError(f'{path} has more than tensors: {", ".join(other[:8])}.')
  return found


def write(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
  """Writes the tensors, whole or not at all."""
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    # Copies, of which no two share memory, as tied ones do.
    save_file({n: x.detach().clone().contiguous() for n, x in tensors.items()}, temporary)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def _is_script(path) -> bool:
  if not zipfile.is_zipfile(path):
    return False
  with zipfile.ZipFile(path) as file:
    return any(name.endswith('/constants.pkl') for name in file.namelist())


def main(arguments: list[str]) -> None:
  if len(arguments) != 2 or not arguments[1].endswith('.safetensors'):
    raise ValueError('wanted are two files, the second of which ends with .safetensors.')
  source, target = map(pathlib.Path, arguments)
  if not target.parent.is_dir():
    raise ValueError(f'there is no folder {target.parent}.')
  tensors = named(source)
  write(target, tensors)
  print(f'{target}: {len(tensors)} tensors, {sum(x.numel() for x in tensors.values()):,} numbers')


if __name__ == '__main__':
  try:
    main(sys.argv[1:])
  except ValueError as error:
    print('error: ' + ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(2)
