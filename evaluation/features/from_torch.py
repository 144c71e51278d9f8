"""Converts weights that torch wrote into .safetensors, and keeps their names.

python evaluation/features/from_torch.py i3d.pt i3d.safetensors

It runs in an environment with torch and safetensors, and imports nothing of this project.  The
first file is a pickle of tensors (.pt, .pth), whose code is not run, or a TorchScript.  Where the
pickle has the key `state_dict` or `model`, the tensors are read from there.
"""

import os
import pathlib
import pickle
import sys
import zipfile

import torch
from safetensors.torch import save_file


def read(path: pathlib.Path) -> dict[str, torch.Tensor]:
  """The tensors in a file, by name; ValueError where it has none, or has other objects too."""
  if not path.is_file():
    raise ValueError(f'there is no file {path}.')
  try:
    if _is_script(path):
      return torch.jit.load(path, map_location='cpu').state_dict()
    content = torch.load(path, map_location='cpu', weights_only=True)
  except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
    raise ValueError(f'{path} is damaged, or has more than tensors: {error}') from error
  for key in ('state_dict', 'model'):
    if isinstance(content, dict) and isinstance(content.get(key), dict):
      content = content[key]
  if not isinstance(content, dict) or not content:
    raise ValueError(f'{path} has no tensors with names.')
  if other := sorted(str(n) for n, x in content.items() if not isinstance(x, torch.Tensor)):
    raise ValueError(f'{path} has more than tensors: {", ".join(other[:8])}.')
  return content


def write(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
  """Writes the tensors; the file appears complete or not at all."""
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    # safetensors refuses tensors that share memory, as tied weights do.
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
    names = ' '.join(arguments)
    raise ValueError(f'got {names!r}; allowed are two files, the second ends with .safetensors.')
  source, target = map(pathlib.Path, arguments)
  if not target.parent.is_dir():
    raise ValueError(f'there is no folder {target.parent}.')
  tensors = read(source)
  write(target, tensors)
  print(f'{target}: {len(tensors)} tensors, {sum(x.numel() for x in tensors.values()):,} numbers')


if __name__ == '__main__':
  try:
    main(sys.argv[1:])
  except ValueError as error:
    print('error: ' + ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(2)
