"""Frames of animated WebP with their times, by Pillow: FFmpeg decodes only still WebP."""

import contextlib
import fractions
import io
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image, ImageOps

from core.errors import UserError
from data import streams
from data.streams import Source

MILLISECOND = fractions.Fraction(1, 1000)


def is_webp(file: Source) -> bool:
  """Whether the file has the header of WebP (RFC 9649, 2.4); OSError if it can't be read."""
  if isinstance(file, bytes):
    head = file[:12]
  else:
    with open(file, 'rb') as opened:
      head = opened.read(12)
  return head[:4] == b'RIFF' and head[8:] == b'WEBP'


def frames(file: Source, max_pixels: int) -> Iterator[av.VideoFrame]:
  """The frames of a WebP, each with its presentation time and duration.

  A still picture is one frame of duration 0.

  ValueError, without the file's name, if frames have more than `max_pixels`, or if the file is
  damaged: then it is raised after the last good frame.
  """
  with contextlib.ExitStack() as stack:
    with _faults(after=0):
      image = stack.enter_context(Image.open(_opened(file)))
      count = getattr(image, 'n_frames', 1)
    streams.require_pixels(*image.size, max_pixels)
    time = 0
    for index in range(count):
      with _faults(after=index):
        image.seek(index)
        image.load()
        mode = 'RGBA' if image.has_transparency_data else 'RGB'
        upright = ImageOps.exif_transpose(image).convert(mode)
      pixels = 'rgba' if mode == 'RGBA' else 'rgb24'
      frame = av.VideoFrame.from_ndarray(np.asarray(upright), format=pixels)
      frame.time_base, frame.pts = MILLISECOND, time
      frame.duration = image.info.get('duration', 0)
      yield frame
      time += frame.duration


def _opened(file: Source):
  return io.BytesIO(file) if isinstance(file, bytes) else file


@contextlib.contextmanager
def _faults(after: int):
  """Turns any error into a UserError: Pillow raises many kinds of errors for damaged files."""
  try:
    yield
  except Exception as error:
    where = f'after {after} frames' if after else 'no decodable frame'
    raise UserError(f'damaged, {where}: {error}') from error
