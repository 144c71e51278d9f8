"""Resizing and cropping of uint8 frames `t h w c`, and cutting of clips."""

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from core.errors import UserError
from core.frame_size import Size, height_width, with_shorter_side

Clip = UInt8[np.ndarray, 't h w c']


def resize(frames: Clip, size: Size) -> UInt8[np.ndarray, 't _ _ c']:
  """The frames, resized with antialiasing until they just cover frames of this size; the aspect
  ratio is kept."""
  return resample(frames, *covering(*frames.shape[1:3], size))


def covering(height: int, width: int, size: Size) -> tuple[int, int]:
  """The least height and width of the same aspect ratio that cover frames of this size.

  For squares, the shorter side is that of the square.
  """
  h, w = height_width(size)
  scale = max(h / height, w / width)
  return max(round(height * scale), h), max(round(width * scale), w)


def resample(frames: Clip, height: int, width: int) -> UInt8[np.ndarray, 't {height} {width} c']:
  """The frames, resized by linear interpolation, with antialiasing where a side shrinks.

  The result is that of `jax.image.resize(..., 'linear', antialias=True)`, rounded.
  """
  t, h, w, c = frames.shape
  if (h, w) == (height, width):
    return frames
  out = np.empty((t, height, width, c), np.uint8)
  for source, target in zip(
    frames, out
  ):  # one at a time, since float32 takes four times the memory
    rows = _weighted(source.reshape(h, w * c), height).reshape(height, w, c)
    columns = _weighted(rows.swapaxes(0, 1).reshape(w, height * c), width)
    target[:] = np.clip(np.rint(columns), 0, 255).reshape(width, height, c).swapaxes(0, 1)
  return out


def _weighted(lines: Shaped[np.ndarray, 'n k'], target: int) -> Float[np.ndarray, 'm k']:
  """`target` weighted means of neighbouring lines.

  A loop over taps is faster than a matrix product: most of the matrix is zero, and the threads of
  matrix products in every worker would compete.
  """
  indices, weights = _taps(len(lines), target)
  total = np.zeros((target, lines.shape[1]), np.float32)
  for index, weight in zip(indices, weights):
    total += weight[:, None] * lines[index]
  return total


@functools.lru_cache(maxsize=64)
def _taps(
  source: int, target: int
) -> tuple[Int[np.ndarray, 'taps m'], Float[np.ndarray, 'taps m']]:
  """For each of `target` lines, the indices and weights of the `source` lines that it averages."""
  step = source / target
  reach = max(step, 1)
  centers = (np.arange(target) + 0.5) * step - 0.5
  count = min(math.ceil(2 * reach) + 1, source)
  first = np.clip(np.ceil(centers - reach).astype(int), 0, source - count)
  indices = first + np.arange(count)[:, None]
  weights = np.maximum(1 - np.abs(indices - centers) / reach, 0)
  return indices, (weights / weights.sum(0)).astype(np.float32)


def center_crop(frames: Clip, size: Size) -> UInt8[np.ndarray, 't h2 w2 c']:
  """The middle, of this size, of the frames, which are at least that large."""
  height, width = height_width(size)
  top, left = (spare // 2 for spare in _spare(frames, height, width))
  return frames[:, top : top + height, left : left + width]


def random_crop(
  frames: Clip, size: Size, rng: np.random.Generator
) -> UInt8[np.ndarray, 't h2 w2 c']:
  """A part of this size at a uniformly random place, which is the same in all frames."""
  height, width = height_width(size)
  top, left = (rng.integers(spare + 1) for spare in _spare(frames, height, width))
  return frames[:, top : top + height, left : left + width]


CROPS = {'center': lambda frames, size, rng: center_crop(frames, size), 'random': random_crop}


def crop(
  name: str, size: Size, shorter_side: int = 0
) -> Callable[[Clip, np.random.Generator], Clip]:
  """Returns `crop(frames, rng)`, which is `CROPS[name]` to this size.

  ValueError if the name is unknown, or if `shorter_side` is not 0 and below that of `size`.
  """
  if name not in CROPS:
    raise UserError(f'Got crop={name!r}; allowed are {sorted(CROPS)}.')
  if shorter_side and shorter_side < (least := min(height_width(size))):
    raise UserError(
      f'Got shorter_side={shorter_side} for crops of size={size}; allowed is {least} or more, or 0.'
    )
  return lambda frames, rng: CROPS[name](frames, size, rng)


def uncropped(size: Size, shorter_side: int = 0) -> tuple[int, int]:
  """The size that frames have to cover before they are cropped to `size`.

  It has the same aspect ratio, and a shorter side of `shorter_side` pixels, if that is not 0.
  """
  return with_shorter_side(size, shorter_side or min(height_width(size)))


def _spare(frames: Clip, height: int, width: int) -> tuple[int, int]:
  h, w = frames.shape[1:3]
  if height > h or width > w:
    raise UserError(
      f'Got crops of {height}x{width} pixels from frames of {h}x{w}; allowed are crops that fit '
      'into them.'
    )
  return h - height, w - width
