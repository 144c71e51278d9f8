"""C3D in torch, written from its paper for these tests alone.

Its parameters have the names of DavideA's c3d-pytorch.  I3D is beside the benchmark.
"""

import torch.nn.functional as F
from torch import nn


class C3D(nn.Module):
  """Logits of `b c t h w`, of which the mean was taken away; Caffe's pooling rounds sizes up."""

  def __init__(self, channels=(64, 128, 256, 512, 512), hidden=4096, classes=101, last=(4, 4)):
    super().__init__()
    one, two, three, four, five = channels
    conv = lambda a, b: nn.Conv3d(a, b, 3, padding=1)
    self.conv1, self.conv2 = conv(3, one), conv(one, two)
    self.conv3a, self.conv3b = conv(two, three), conv(three, three)
    self.conv4a, self.conv4b = conv(three, four), conv(four, four)
    self.conv5a, self.conv5b = conv(four, five), conv(five, five)
    self.fc6 = nn.Linear(five * last[0] * last[1], hidden)
    self.fc7 = nn.Linear(hidden, hidden)
    self.fc8 = nn.Linear(hidden, classes)

  def forward(self, x):
    halved = lambda x, window=(2, 2, 2): F.max_pool3d(x, window, window, ceil_mode=True)
    x = halved(F.relu(self.conv1(x)), (1, 2, 2))
    x = halved(F.relu(self.conv2(x)))
    x = halved(F.relu(self.conv3b(F.relu(self.conv3a(x)))))
    x = halved(F.relu(self.conv4b(F.relu(self.conv4a(x)))))
    x = halved(F.relu(self.conv5b(F.relu(self.conv5a(x)))))
    return self.fc8(F.relu(self.fc7(F.relu(self.fc6(x.flatten(1))))))
