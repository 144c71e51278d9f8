"""Animated WebP as frames with their times: FFmpeg decodes only its still pictures, Pillow all."""

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
  """Whether the file begins as WebP does (RFC 9649, 2.4); an OSError where it can't be read."""
  if isinstance(file, bytes):
    head = file[:12]
  else:
    with open(file, 'rb') as opened:
      head = opened.read(12)
  return head[:4] == b'RIFF' and head[8:] == b'WEBP'


def frames(file: Source, max_pixels: int) -> Iterator[av.VideoFrame]:
  """The frames of a WebP, without alpha, with the times at which and for which each is shown.

  A still picture is one frame, shown for no time.  A ValueError, without the file's name, where
  it is damaged, after the frames before, or where frames have more than `max_pixels`.
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
        upright = ImageOps.exif_transpose(image).convert('RGB')
      frame = av.VideoFrame.from_ndarray(np.asarray(upright), format='rgb24')
      frame.time_base, frame.pts = MILLISECOND, time
      frame.duration = image.info.get('duration', 0)
      yield frame
      time += frame.duration


def _opened(file: Source):
  return io.BytesIO(file) if isinstance(file, bytes) else file


@contextlib.contextmanager
def _faults(after: int):
  """Makes one ValueError of the errors of Pillow, which raises whatever damage leads it to."""
  try:
    yield
  except Exception as error:
    at = f'after {after} frames' if after else 'no decodable frame'
    raise UserError(f'damaged, {at}: {error}') from error
