"""Frames as the networks of video scores take them: bilinear, without antialiasing, and cropped."""

import math

import numpy as np
from jaxtyping import Float, UInt8

from core.errors import UserError


def resized(
  video: UInt8[np.ndarray, 't h w 3'], shorter: int, size: int
) -> Float[np.ndarray, 't {size} {size} 3']:
  """The square of side `size` in the middle of the frames whose shorter side is `shorter`, 0..255.

  Pixels have their centres at halves, and each is a mean of the four nearest, also where a video
  shrinks: what `torch.nn.functional.interpolate(mode='bilinear', align_corners=False)` computes.
  The longer side is rounded up, and an odd pixel beyond the square is cut off at its end.
  """
  _require_pixels(video)
  h, w = video.shape[1:3]
  scale = shorter / min(h, w)
  height, width = (shorter if n == min(h, w) else math.ceil(n * scale) for n in (h, w))
  return _interpolated(video, _halves(h, height, size), _halves(w, width, size))


def cornered(
  video: UInt8[np.ndarray, 't h w 3'], size: int
) -> Float[np.ndarray, 't {size} {size} 3']:
  """The largest square in the middle of the frames, with sides of `size`, 0..255.

  Pixels in its corners stay there, and the others are evenly between: chainer's `resize_images`,
  and torch's `interpolate` with `align_corners`.
  """
  _require_pixels(video)
  h, w = video.shape[1:3]
  side = min(h, w)
  top, left = (h - side) // 2, (w - side) // 2
  at = np.arange(size, dtype=np.float32) * np.float32((side - 1) / max(size - 1, 1))
  square = video[:, top : top + side, left : left + side]
  return _interpolated(square, at, at)


def _interpolated(video, rows, columns):
  """The video at these places of pixels, by the four around each."""
  low, high, part = _taps(rows, video.shape[1])
  out = video[:, low].astype(np.float32)
  out += part[:, None, None] * (video[:, high].astype(np.float32) - out)
  low, high, part = _taps(columns, video.shape[2])
  made = out[:, :, low]
  made += part[:, None] * (out[:, :, high] - made)
  return made


def _halves(source: int, target: int, size: int):
  """Where the middle `size` of `target` pixels are among those of the source."""
  first = (target - size) // 2
  # In float32, as torch does: it decides on the last bits of a place in a large frame.
  half = np.float32(0.5)
  wanted = np.arange(first, first + size, dtype=np.float32)
  return np.float32(source / target) * (wanted + half) - half


def _taps(at, source: int):
  """The two pixels around each place, and the second one's weight."""
  at = np.clip(at, 0, source - 1)
  low = at.astype(int)
  return low, np.minimum(low + 1, source - 1), at - low.astype(np.float32)


def _require_pixels(video) -> None:
  t, h, w = video.shape[:3]
  if min(t, h, w) < 1:
    raise UserError(f'Got a video of {t} frames of {h} x {w} pixels; it has none.')
