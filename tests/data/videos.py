"""Video files with known frames for tests."""

import dataclasses
import fractions
import io
import struct

import av
import numpy as np

from data import builder, sources
from data.manifest import Manifest


def encoded(pictures, milliseconds, container='matroska', aspect=None, lossless='ffv1'):
  """A file with these pictures (`t h w 3`) at these times."""
  file = io.BytesIO()
  with av.open(file, 'w', format=container) as out:
    stream = out.add_stream(lossless, rate=1000)
    stream.height, stream.width = pictures.shape[1:3]
    stream.pix_fmt = 'rgb24' if lossless == 'png' else 'bgr0'
    if aspect:
      stream.codec_context.sample_aspect_ratio = fractions.Fraction(aspect)
    for picture, time in zip(pictures, milliseconds):
      frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
      frame.pts, frame.time_base = int(time), fractions.Fraction(1, 1000)
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return file.getvalue()


def turned(mov):
  """The contents of a QuickTime file with a rotation by 90 degrees, as phones write it."""
  at = mov.index(b'tkhd') + 4 + 40  # the display matrix, behind times, numbers and reserved bytes
  one = 1 << 16
  matrix = struct.pack('>9i', 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
  return mov[:at] + matrix + mov[at + len(matrix) :]


def numbered(count, width=16):
  """Frames whose pixels all have the frame's index as their value."""
  return np.broadcast_to(
    np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 16, width, 3)
  )


def packed(packets, codec, container, pixels, shape, rate=12):
  """A file with these packets, `rate` a second; each is a complete picture of this shape."""
  file = io.BytesIO()
  with av.open(file, 'w', format=container) as out:
    stream = out.add_stream(codec, rate=rate)
    (stream.height, stream.width), stream.pix_fmt = shape, pixels
    for number, data in enumerate(packets):
      packet = av.Packet(data)
      packet.pts = packet.dts = number
      packet.time_base, packet.stream = fractions.Fraction(1, rate), stream
      packet.is_keyframe = True
      out.mux(packet)
  return file.getvalue()


def built(folder, lines, out, **changes):
  """The report on a dataset of these lines, with a clip of each file unless `seconds` is given.

  changes: fields of `sources.Options`, and arguments of `builder.build`.
  """
  fields = {field.name for field in dataclasses.fields(sources.Options)}
  options = sources.Options(**{name: changes.pop(name) for name in fields & changes.keys()})
  return builder.build(folder, Manifest(lines), out, options, **{'workers': 1} | changes)
