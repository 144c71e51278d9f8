"""Files of torch become files of safetensors that are read here."""

import pathlib
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = ROOT / 'evaluation' / 'features' / 'from_torch.py'


def run(source, target):
  return subprocess.run([sys.executable, COMMAND, source, target], capture_output=True, text=True)


def network():
  torch.manual_seed(0)
  return torch.nn.Sequential(torch.nn.Conv3d(2, 3, 3), torch.nn.BatchNorm3d(3)).eval()


KINDS = {
  'a state': lambda model, path: torch.save(model.state_dict(), path),
  'a checkpoint': lambda model, path: torch.save(
    {'epoch': 3, 'state_dict': model.state_dict(), 'optimizer': {}}, path
  ),
  'a TorchScript': lambda model, path: torch.jit.script(model).save(path),
  'an old pickle': lambda model, path: torch.save(
    model.state_dict(), path, _use_new_zipfile_serialization=False
  ),
  'tied tensors': lambda model, path: torch.save(
    model.state_dict() | {'again': model[0].weight.data.transpose(0, 1)}, path
  ),
}


@pytest.mark.parametrize('kind', KINDS)
def test_names_and_tensors_stay(kind, tmp_path):
  model = network()
  KINDS[kind](model, tmp_path / 'model.pt')
  done = run(tmp_path / 'model.pt', tmp_path / 'model.safetensors')
  assert done.returncode == 0, done.stderr
  expected = model.state_dict()
  if kind == 'tied tensors':
    expected['again'] = model[0].weight.transpose(0, 1)
  got = load_file(tmp_path / 'model.safetensors')
  assert got.keys() == expected.keys()
  assert all(torch.equal(got[name], x) for name, x in expected.items())
  assert sorted(p.name for p in tmp_path.iterdir()) == ['model.pt', 'model.safetensors']


@pytest.mark.parametrize(
  ('make', 'target', 'message'),
  [
    (lambda path: None, 'a.safetensors', 'error: there is no file '),
    (lambda path: torch.save(network(), path), 'a.safetensors', 'model.pt is damaged, or has more'),
    (lambda path: path.write_bytes(b'\0' * 99), 'a.safetensors', 'model.pt is damaged, or has mo'),
    (lambda path: torch.save({'a': 3}, path), 'a.safetensors', 'pt has more than tensors: a.'),
    (lambda path: torch.save(torch.ones(3), path), 'a.safetensors', 'pt has no tensors with nam'),
    (lambda path: torch.save({}, path), 'a.npz', 'two files, the second ends with .safetensors.'),
    (lambda path: torch.save({}, path), 'no/a.safetensors', 'error: there is no folder '),
  ],
)
def test_other_files_are_refused_in_one_line(make, target, message, tmp_path):
  make(tmp_path / 'model.pt')
  done = run(tmp_path / 'model.pt', tmp_path / target)
  assert done.returncode == 2
  assert message in done.stderr
  assert done.stderr.count('\n') == 1
  assert not (tmp_path / target).exists()
