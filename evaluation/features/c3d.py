"""C3D (Tran et al., 2015), trained on the 101 classes of UCF101, for the inception score of UCF101.

All published scores use the weights by Saito et al. (TGAN, 2017; TGANv2, 2020), which were trained
in Caffe.  They are two files for chainer: `conv3d_deepnetA_ucf.npz`, and `mean2.npz` with the mean
clip of the training set; `conv3d_deepnetA_ucf.npz,mean2.npz` is the source of both.  Channels are
in the order blue, green, red.  Clips are prepared as in `c3d_ucf101.py` of TGANv2, which gave the
scores of text-to-video models; TGAN, 2017, cuts 112 pixels out of squares of 128.
"""

import flax.linen as nn
import jaxtyping
import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from core.errors import UserError
from core.typing import Float, Video
from evaluation.features import resize, volume

FRAMES = 16
HEIGHT, WIDTH, SIZE = 128, 171, 112  # of the mean's frames, and the side of the network's input
CORNER = 8  # the first row and column of the mean that is subtracted
PREPARED = (
  'centre square to 112x112, bilinear with aligned corners, without antialiasing; blue first; less '
  "the mean's rows and columns 8 to 119"
)


class C3D(nn.Module):
  """Classifies clips of pixels from 0 to 255, in the order blue, green, red (that of OpenCV)."""

  classes: int = 101
  channels: tuple[int, ...] = (64, 128, 256, 512, 512)
  hidden: int = 4096

  def setup(self):
    """Eight convolutions and three dense layers (Tran et al., Fig. 3), and the mean."""
    one, two, three, four, five = self.channels
    widths = {'1a': one, '2a': two, '3a': three, '3b': three, '4a': four, '4b': four}
    widths |= {'5a': five, '5b': five}
    self.convs = {name: _Conv(width, name=f'conv{name}') for name, width in widths.items()}
    self.mean = self.param('mean', nn.initializers.zeros, (FRAMES, HEIGHT, WIDTH, 3))
    self.fc6, self.fc7 = nn.Dense(self.hidden, name='fc6'), nn.Dense(self.hidden, name='fc7')
    self.fc8 = nn.Dense(self.classes, name='fc8')

  def __call__(self, video: Video) -> Float['b k']:
    """Logits."""
    if video.shape[1] != FRAMES:
      raise UserError(f'Got videos of {video.shape[1]} frames; C3D takes {FRAMES}.')
    rows, columns = (slice(CORNER, CORNER + n) for n in video.shape[2:4])
    x = self.convs['1a'](video - self.mean[None, :, rows, columns])
    x = self.convs['2a'](volume.max_pool(x, (1, 2, 2), (1, 2, 2)))
    for stage in '345':
      x = self.convs[f'{stage}a'](volume.max_pool(x, (2, 2, 2), (2, 2, 2)))
      x = self.convs[f'{stage}b'](x)
    # An odd row or column is pooled by itself, as in Caffe; many versions in torch drop it.
    x = volume.max_pool(x, (2, 2, 2), (2, 2, 2))
    x = rearrange(x, 'b t h w c -> b (c t h w)')
    return self.fc8(nn.relu(self.fc7(nn.relu(self.fc6(x)))))


class _Conv(nn.Module):
  features: int

  @nn.compact
  def __call__(self, x: Video) -> Float['b t h w d']:
    shape = (3, 3, 3, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return nn.relu(volume.convolve(x, kernel) + bias[None, None, None, None])


def preprocess(video: UInt8[np.ndarray, 't h w 3']) -> jaxtyping.Float[np.ndarray, 't 112 112 3']:
  """The central square of the frames at the network's size, float32 in 0..255, blue first.

  Generated square videos are used whole, as in TGANv2.  The network subtracts the mean.
  """
  return np.ascontiguousarray(resize.resize_centre_square(video, SIZE)[..., ::-1])
