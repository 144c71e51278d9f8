"""How near a video comes to another one, frame by frame: PSNR and SSIM of pixels in [0, 1].

Both are those of JunyaoHu/common_metrics_on_video_quality, which has seven digits of float32.
"""

import numpy as np
from jaxtyping import Float, UInt8

from core.errors import UserError
from core.video import Pixels

Other = UInt8[np.ndarray, 't2 h2 w2 3']  # which should be of the same shape, and is told if not

SIDE, SIGMA = 11, 1.5  # of SSIM's window, in pixels
C1, C2 = 0.01**2, 0.03**2

_TAPS = np.exp(-((np.arange(SIDE) - SIDE // 2) ** 2) / (2 * SIGMA**2))
_TAPS /= _TAPS.sum()


def psnr(made: Pixels, truth: Other) -> Float[np.ndarray, ' t']:
  """Peak signal-to-noise ratio of every frame, in dB from 0 to 100: more is nearer.

  ValueError where the videos are not of one shape.
  """
  _require_one_shape(made, truth)
  pairs = ((a / 255.0, b / 255.0) for a, b in zip(made, truth))
  return decibels(np.array([np.square(a - b).mean() for a, b in pairs]))


def decibels(error: Float[np.ndarray, '...']) -> Float[np.ndarray, '...']:
  """The PSNR of a mean squared error of pixels in [0, 1].  It ends at 100."""
  return 10 * np.log10(1 / np.maximum(error, 1e-10))


def ssim(made: Pixels, truth: Other) -> Float[np.ndarray, ' t']:
  """Structural similarity of every frame, from -1 to 1: equal frames have 1.

  Of every channel, in Gaussian windows that lie in the frame as a whole, and the mean over all
  (Wang et al., 2004, Eq. 13).  ValueError where the videos are not of one shape, or smaller than a
  window.
  """
  _require_one_shape(made, truth)
  if min(made.shape[1:3]) < SIDE:
    h, w = made.shape[1:3]
    raise UserError(f'Got frames of {h} x {w} pixels; SSIM needs {SIDE} x {SIDE} or more.')
  return np.array([_ssim(a / 255.0, b / 255.0) for a, b in zip(made, truth)])


def _ssim(a: Float[np.ndarray, 'h w c'], b: Float[np.ndarray, 'h w c']) -> float:
  mean_a, mean_b = _blurred(a), _blurred(b)
  variances = _blurred(a * a) + _blurred(b * b) - mean_a**2 - mean_b**2
  covariance = _blurred(a * b) - mean_a * mean_b
  above = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
  below = (mean_a**2 + mean_b**2 + C1) * (variances + C2)
  return float((above / below).mean())


def _blurred(x: Float[np.ndarray, 'h w c']) -> Float[np.ndarray, 'h2 w2 c']:
  """The mean in the window around each pixel that has one."""
  h, w = (n - SIDE + 1 for n in x.shape[:2])
  x = sum(tap * x[i : i + h] for i, tap in enumerate(_TAPS))
  return sum(tap * x[:, i : i + w] for i, tap in enumerate(_TAPS))


def _require_one_shape(made: Pixels, truth: Other) -> None:
  if made.shape != truth.shape:
    raise UserError(f'Got videos of shapes {made.shape} and {truth.shape}; allowed is one shape.')
