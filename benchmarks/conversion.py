r"""Measures the memory and seconds that the import of an image model takes.

  python -m benchmarks.conversion --config=configs/t2i.py:if_m

`convert.py` converts a folder of random weights in the format of diffusers.  The memory is the peak
of the process, minus the peak of a process that only imports the same libraries.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags
from ml_collections import config_flags

from core import command, weights
from core.params import count, names
from stunet import deepfloyd, torch_axes
from stunet.unet import STUNet

_CONFIG = config_flags.DEFINE_config_file('config', 'configs/t2i.py:if_m')
_DTYPE = flags.DEFINE_enum('dtype', 'float32', ['float16', 'float32'], 'Dtype of the weights.')


def main() -> None:
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    size = write_model(folder / 'unet')
    idle, _ = peak('-c', 'import convert')
    most, seconds = peak(
      'convert.py', f'--from={folder}/unet', '--text=none', f'--out={folder}/ours'
    )
  print(f'weights                {size / 2**30:.2f} GiB of {_DTYPE.value}')
  share = (most - idle) / size
  print(f'memory beyond imports  {(most - idle) / 2**30:.2f} GiB, {share:.2f} of the weights')
  print(f'memory of imports      {idle / 2**30:.2f} GiB')
  print(f'seconds                {seconds:.0f}')


def write_model(folder: pathlib.Path) -> int:
  """Writes random weights of the config's image model to a new folder; returns their bytes."""
  model = STUNet(**{**_CONFIG.value.model, 'temporal': False})
  width = _CONFIG.value.text.width
  shapes, levels = deepfloyd.shapes(model, width), len(model.channels)
  rng = np.random.default_rng(0)

  def tensors():
    for name, shape in names(shapes).items():
      array = rng.standard_normal(shape.shape, np.float32).astype(_DTYPE.value)
      yield deepfloyd.diffusers_name(name, levels), torch_axes.to_diffusers(array)

  folder.mkdir()
  unet = deepfloyd.unet_config(model, width, _CONFIG.value.data.size)
  (folder / 'config.json').write_text(json.dumps(unet))
  weights.write(folder, 'diffusion_pytorch_model', tensors())
  return count(shapes) * np.dtype(_DTYPE.value).itemsize


def peak(*words: str) -> tuple[int, float]:
  """The peak memory in bytes of a Python process, and its seconds."""
  # In a child of a child, since getrusage counts all children of a process.
  line = [sys.executable, '-c', _MEASURED, sys.executable, *words]
  begin = time.monotonic()
  done = subprocess.run(line, cwd=command.ROOT, check=True, capture_output=True, text=True)
  return int(done.stdout.splitlines()[-1]) * _UNIT, time.monotonic() - begin


_UNIT = 1 if sys.platform == 'darwin' else 1024  # of ru_maxrss
_MEASURED = (
  'import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); '
  'print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'
)


if __name__ == '__main__':
  command.run(main)
