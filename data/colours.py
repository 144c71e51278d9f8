"""Decoded frames as 8-bit RGB of any size."""

import collections
import functools
import threading

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt8

from data import hdr, transforms

# FFmpeg's bilinear filter is widened where a side shrinks, so that it is the filter of
# `transforms.resample`.  By default its rounding darkens frames, chroma is not
# interpolated, and every other chroma value of a frame in RGB is dropped.
RESAMPLING = (
  Interpolation.BILINEAR
  | Interpolation.ACCURATE_RND
  | Interpolation.FULL_CHR_H_INT
  | Interpolation.FULL_CHR_H_INP
)
_own = threading.local()  # the prepared conversions of each thread, one for each format


def rgb(
  image: av.VideoFrame, height: int, width: int, interpolation: int = RESAMPLING
) -> UInt8[np.ndarray, '{height} {width} 3']:
  """The frame in RGB, resized by linear interpolation, with antialiasing where a side shrinks.

  The matrix and the range are those that the frame states, or of BT.601 where it states none.
  High dynamic range is mapped to sRGB (`data.hdr`).  Transparent pixels lie on black.

  interpolation: another filter of FFmpeg, for frames without transparent pixels.
  """
  if hdr.is_high(image.color_trc):
    values = _converted(image, 'rgb48', height, width, interpolation)
    return hdr.to_srgb(values, image.color_trc, image.color_primaries)
  if _has_alpha(image.format.name):
    pixels = _converted(image, 'rgba', image.height, image.width, interpolation)
    if pixels[..., 3].min(initial=255) < 255:
      on_black = pixels[..., :3] * (pixels[..., 3:] / np.float32(255))
      return transforms.resample(np.rint(on_black).astype(np.uint8)[None], height, width)[0]
  return _converted(image, 'rgb24', height, width, interpolation)


def _converted(image, pixels: str, height: int, width: int, interpolation: int) -> np.ndarray:
  if (height, width) == (image.height, image.width):
    return _as(pixels, image).to_ndarray()
  shape = dict(height=height, width=width, interpolation=interpolation)
  if pixels == 'rgb24' and interpolation & Interpolation.FULL_CHR_H_INT:
    # Planes are resized to the same values in half the time, and then put in order.
    return _as('rgb24', _as('gbrp', image, **shape)).to_ndarray()
  return _as(pixels, image, **shape).to_ndarray()


def _as(pixels: str, image: av.VideoFrame, **shape: int) -> av.VideoFrame:
  """The frame in another format of pixels, converted as the previous one of this thread was.

  FFmpeg takes longer to prepare a conversion than to convert a small frame, and prepares a new one
  only if a frame differs in size, format or colours from the one before it.
  """
  reformatters = _own.__dict__.setdefault('reformatters', collections.defaultdict(VideoReformatter))
  # One thread: FFmpeg would otherwise start and keep as many as the machine has cores.
  return reformatters[pixels].reformat(image, format=pixels, threads=1, **shape)


@functools.cache
def _has_alpha(name: str) -> bool:
  """Whether a format of pixels, of which FFmpeg has some hundred, may have transparent ones."""
  pixels = av.VideoFormat(name)
  return pixels.has_palette or any(component.is_alpha for component in pixels.components)
