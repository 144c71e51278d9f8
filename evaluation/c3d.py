"""C3D (Tran et al., 2015) of UCF101's 101 classes, by which its inception score is.

Saito et al. (TGAN, 2017; TGANv2, 2020) published the weights that all such scores are by, which
were trained in Caffe, as two files for chainer: `conv3d_deepnetA_ucf.npz`, and `mean2.npz` with the
mean clip of the training set.  `conv3d_deepnetA_ucf.npz,mean2.npz` is the source of both.  Network
and mean take blue first, as TGAN's `calc_inception.py` says and does.
"""

import flax.linen as nn
import jaxtyping
import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from core.typing import Float, Video
from evaluation import resize, volume

FRAMES = 16
SHORTER, LONGER, SIZE = 128, 171, 112  # of frames, and of the squares cut out of them
PREPARED = (
  'shorter side 128, bilinear without antialiasing; centre 112x112; blue first; less the mean'
)


class C3D(nn.Module):
  """Classifies clips of pixels from 0 to 255, blue first, as OpenCV reads files for Caffe."""

  classes: int = 101
  channels: tuple[int, ...] = (64, 128, 256, 512, 512)
  hidden: int = 4096

  def setup(self):
    """Eight convolutions and three dense layers (Tran et al., Fig. 3), and the mean."""
    one, two, three, four, five = self.channels
    widths = {'1a': one, '2a': two, '3a': three, '3b': three, '4a': four, '4b': four}
    widths |= {'5a': five, '5b': five}
    self.convs = {name: _Conv(width, name=f'conv{name}') for name, width in widths.items()}
    self.mean = self.param('mean', nn.initializers.zeros, (FRAMES, SHORTER, LONGER, 3))
    self.fc6, self.fc7 = nn.Dense(self.hidden, name='fc6'), nn.Dense(self.hidden, name='fc7')
    self.fc8 = nn.Dense(self.classes, name='fc8')

  def __call__(self, video: Video) -> Float['b k']:
    """Logits."""
    return self.fc8(self.embed(video))

  def embed(self, video: Video) -> Float['b d']:
    """What the last layer sees (fc7), by which TGANv2 has a Fréchet distance too."""
    x = self.convs['1a'](video - self._middle(*video.shape[1:4])[None])
    x = self.convs['2a'](volume.max_pool(x, (1, 2, 2), (1, 2, 2)))
    for stage in '345':
      x = self.convs[f'{stage}a'](volume.max_pool(x, (2, 2, 2), (2, 2, 2)))
      x = self.convs[f'{stage}b'](x)
    # An odd row or column is pooled by itself, as in Caffe; torch's versions often do otherwise.
    x = volume.max_pool(x, (2, 2, 2), (2, 2, 2))
    x = rearrange(x, 'b t h w c -> b (c t h w)')
    return nn.relu(self.fc7(nn.relu(self.fc6(x))))

  def _middle(self, frames, height, width):
    """The mean of what the middle of the frames shows."""
    if frames != FRAMES:
      raise ValueError(f'Got videos of {frames} frames; C3D takes {FRAMES}.')
    top, left = (SHORTER - height) // 2, (LONGER - width) // 2
    return self.mean[:, top : top + height, left : left + width]


class _Conv(nn.Module):
  features: int

  @nn.compact
  def __call__(self, x: Video) -> Float['b t h w d']:
    shape = (3, 3, 3, x.shape[-1], self.features)
    kernel = self.param('kernel', nn.initializers.he_normal(), shape)
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    return nn.relu(volume.convolve(x, kernel) + bias[None, None, None, None])


def preprocess(video: UInt8[np.ndarray, 't h w 3']) -> jaxtyping.Float[np.ndarray, 't 112 112 3']:
  """The middle of the frames at the network's size, float32 from 0 to 255, blue first.

  Their shorter side becomes 128, and the middle 112 x 112 pixels are left.  For frames of 4:3 these
  are 128 x 171, as the network was trained (C3D's `sports1m` and UCF101 recipes), and for squares
  128 x 128, as TGAN measures what is generated.  The network takes the mean away.
  """
  return np.ascontiguousarray(resize.resized(video, SHORTER, SIZE)[..., ::-1])
