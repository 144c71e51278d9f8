"""Bilinear resizing and centre crops of frames, as published feature networks prepare them."""

import math

import numpy as np
from jaxtyping import Float, UInt8

from core.errors import UserError


def resize_shorter_side(
  video: UInt8[np.ndarray, 't h w 3'], shorter: int, size: int
) -> Float[np.ndarray, 't {size} {size} 3']:
  """The central square of side `size` of frames resized to the shorter side `shorter`, in 0..255.

  This is `torch.nn.functional.interpolate(mode='bilinear', align_corners=False)`: the centres of
  pixels are at halves, and each pixel is a mean of the four nearest, without antialiasing.  The
  longer side is rounded up; of an odd number of pixels beyond the square, the last is cut off.
  """
  _require_pixels(video)
  h, w = video.shape[1:3]
  scale = shorter / min(h, w)
  height, width = (shorter if n == min(h, w) else math.ceil(n * scale) for n in (h, w))
  return _interpolate(video, _centres(h, height, size), _centres(w, width, size))


def resize_centre_square(
  video: UInt8[np.ndarray, 't h w 3'], size: int
) -> Float[np.ndarray, 't {size} {size} 3']:
  """The largest central square of the frames, resized to the side `size`, in 0..255.

  Its corner pixels stay in the corners: this is `resize_images` of chainer, and `interpolate` of
  torch with `align_corners=True`.
  """
  _require_pixels(video)
  h, w = video.shape[1:3]
  side = min(h, w)
  top, left = (h - side) // 2, (w - side) // 2
  places = np.arange(size, dtype=np.float32) * np.float32((side - 1) / max(size - 1, 1))
  square = video[:, top : top + side, left : left + side]
  return _interpolate(square, places, places)


def _interpolate(video, rows, columns):
  """The video at these fractional rows and columns, bilinearly."""
  low, high, weight = _neighbours(rows, video.shape[1])
  by_row = video[:, low].astype(np.float32)
  by_row += weight[:, None, None] * (video[:, high].astype(np.float32) - by_row)
  low, high, weight = _neighbours(columns, video.shape[2])
  resized = by_row[:, :, low]
  resized += weight[:, None] * (by_row[:, :, high] - resized)
  return resized


def _centres(source: int, target: int, size: int):
  """The places in the source of the central `size` of `target` pixels."""
  first = (target - size) // 2
  # float32, as in torch: it decides the last bits of a place in a large frame.
  half = np.float32(0.5)
  pixels = np.arange(first, first + size, dtype=np.float32)
  return np.float32(source / target) * (pixels + half) - half


def _neighbours(places, source: int):
  """The two pixels around each place, and the weight of the second."""
  places = np.clip(places, 0, source - 1)
  low = places.astype(int)
  return low, np.minimum(low + 1, source - 1), places - low.astype(np.float32)


def _require_pixels(video) -> None:
  t, h, w = video.shape[:3]
  if min(t, h, w) < 1:
    raise UserError(f'Got a video of {t} frames of {h} x {w} pixels; it has none.')
