"""Times I3D in torch, which is written after its paper and its authors' definition.

`features.py` starts it with another environment's Python.  The shape is the first argument, in
JSON.  For each line on stdin, it processes a batch of clips and prints the seconds.  The first line
on stdout has the number of threads and the versions.
"""

import json
import sys
import time
from importlib import metadata

import torch
import torch.nn.functional as F
from torch import nn

MIXED = {
  '3b': (192, (64, 96, 128, 16, 32, 32)),
  '3c': (256, (128, 128, 192, 32, 96, 64)),
  '4b': (480, (192, 96, 208, 16, 48, 64)),
  '4c': (512, (160, 112, 224, 24, 64, 64)),
  '4d': (512, (128, 128, 256, 24, 64, 64)),
  '4e': (512, (112, 144, 288, 32, 64, 64)),
  '4f': (528, (256, 160, 320, 32, 128, 128)),
  '5b': (832, (256, 160, 320, 32, 128, 128)),
  '5c': (832, (384, 192, 384, 48, 128, 128)),
}


def same(x, window, stride):
  """Pads with zeros as SAME of TensorFlow; also before pooling, where no value is below zero."""
  pads = []
  for n, k, s in zip(x.shape[2:], window, stride):
    total = max(k - s if n % s == 0 else k - n % s, 0)
    pads = [total // 2, total - total // 2, *pads]
  return F.pad(x, pads)


def pool(x, window, stride):
  """Max pooling."""
  return F.max_pool3d(same(x, window, stride), window, stride)


class Unit(nn.Module):
  """Convolution, batch norm and ReLU; the final unit has a bias instead of the last two."""

  def __init__(self, features_in, features, size, stride=1, final=False):
    super().__init__()
    self.size, self.stride = (size,) * 3, (stride,) * 3
    self.conv3d = nn.Conv3d(features_in, features, size, stride, bias=final)
    if not final:
      self.bn = nn.BatchNorm3d(features, eps=1e-3)

  def forward(self, x):
    """The features of the video."""
    x = self.conv3d(same(x, self.size, self.stride))
    return F.relu(self.bn(x)) if hasattr(self, 'bn') else x


class Mixed(nn.Module):
  """An Inception module of four branches."""

  def __init__(self, features_in, features):
    super().__init__()
    self.b0 = Unit(features_in, features[0], 1)
    self.b1a, self.b1b = Unit(features_in, features[1], 1), Unit(features[1], features[2], 3)
    self.b2a, self.b2b = Unit(features_in, features[3], 1), Unit(features[3], features[4], 3)
    self.b3b = Unit(features_in, features[5], 1)

  def forward(self, x):
    """The features of the video."""
    pooled = pool(x, (3, 3, 3), (1, 1, 1))
    branches = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)
    return torch.cat(branches, 1)


class I3D(nn.Module):
  """I3D, with the names of piergiaj's pytorch-i3d."""

  def __init__(self):
    super().__init__()
    self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
    self.Conv3d_2b_1x1 = Unit(64, 64, 1)
    self.Conv3d_2c_3x3 = Unit(64, 192, 3)
    for name, sizes in MIXED.items():
      setattr(self, f'Mixed_{name}', Mixed(*sizes))
    self.logits = Unit(1024, 400, 1, final=True)

  def forward(self, x):
    """The logits of videos `b c t h w`, averaged over time."""
    last = 7 if x.shape[-1] == 224 else x.shape[-1]
    x = pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
    x = pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
    for name in MIXED:
      if name == '4b':
        x = pool(x, (3, 3, 3), (2, 2, 2))
      if name == '5b':
        x = pool(x, (2, 2, 2), (2, 2, 2))
      x = getattr(self, f'Mixed_{name}')(x)
    window = (2, 7, 7) if last == 7 else (2, *x.shape[3:])
    return self.logits(F.avg_pool3d(x, window, 1))[..., 0, 0].mean(2)


def main():
  """See the docstring of this file."""
  shape = json.loads(sys.argv[1])
  torch.set_num_threads(shape['threads'])
  torch.manual_seed(0)
  model = I3D().eval()
  videos = torch.rand(shape['batch'], 3, shape['frames'], 224, 224)
  if shape['channels_last']:
    model.to(memory_format=torch.channels_last_3d)
    videos = videos.contiguous(memory_format=torch.channels_last_3d)
  print_json(threads=torch.get_num_threads(), versions={'torch': metadata.version('torch')})
  with torch.inference_mode():
    for _ in sys.stdin:
      begin = time.perf_counter()
      model(videos)
      print_json(seconds=time.perf_counter() - begin)


def print_json(**values):
  """Prints one line of JSON."""
  print(json.dumps(values), flush=True)


if __name__ == '__main__':
  main()
