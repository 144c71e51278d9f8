"""Frames as the networks of video scores take them: bilinear, without antialiasing, and cropped."""

import math

import numpy as np
from jaxtyping import Float, UInt8


def resized(
  video: UInt8[np.ndarray, 't h w 3'], shorter: int, size: int
) -> Float[np.ndarray, 't {size} {size} 3']:
  """The square of side `size` in the middle of the frames whose shorter side is `shorter`, 0..255.

  Pixels have their centres at halves, and each is a mean of the four nearest, also where a video
  shrinks: what `torch.nn.functional.interpolate(mode='bilinear', align_corners=False)` computes.
  The longer side is rounded up, and an odd pixel beyond the square is cut off at its end.
  """
  t, h, w = video.shape[:3]
  if min(t, h, w) < 1:
    raise ValueError(f'Got a video of {t} frames of {h} x {w} pixels; it has none.')
  scale = shorter / min(h, w)
  height, width = (shorter if n == min(h, w) else math.ceil(n * scale) for n in (h, w))
  low, high, part = _taps(h, height, size)
  rows = video[:, low].astype(np.float32)
  rows += part[:, None, None] * (video[:, high].astype(np.float32) - rows)
  low, high, part = _taps(w, width, size)
  out = rows[:, :, low]
  out += part[:, None] * (rows[:, :, high] - out)
  return out


def _taps(source: int, target: int, size: int):
  """The two pixels around each of the middle `size` of `target`, and the second one's weight."""
  first = (target - size) // 2
  # In float32, as torch does: it decides on the last bits of a place in a large frame.
  half = np.float32(0.5)
  at = (
    np.float32(source / target) * (np.arange(first, first + size, dtype=np.float32) + half) - half
  )
  at = np.clip(at, 0, source - 1)
  low = at.astype(int)
  return low, np.minimum(low + 1, source - 1), at - low.astype(np.float32)
