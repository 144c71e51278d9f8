import fractions
import io
import itertools

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, VideoReformatter

from data import colours, decode

# ISO/IEC 23091-2, table 4: the number of each matrix, with its weights of red and blue in luma.
# What is not specified (2) is taken for BT.601, as FFmpeg does at any size.
MATRICES = {
  1: (0.2126, 0.0722),
  2: (0.299, 0.114),
  4: (0.30, 0.11),
  5: (0.299, 0.114),
  6: (0.299, 0.114),
  7: (0.212, 0.087),
  9: (0.2627, 0.0593),
}
COLOURS = np.array(
  [*([30, 60, 200], [220, 40, 50], [20, 180, 90], [128, 128, 128], [250, 240, 20], [10, 15, 12])]
)
SIDE = 16


def coded(colours, matrix, full, depth):
  """Luma and the two differences of colours of 8 bits, by the formulas of the standard."""
  red, blue = MATRICES[matrix]
  rgb = colours / 255
  luma = rgb @ [red, 1 - red - blue, blue]
  differences = [(rgb[:, 2] - luma) / (2 - 2 * blue), (rgb[:, 0] - luma) / (2 - 2 * red)]
  unit, top = 2 ** (depth - 8), 2**depth - 1
  scales = (top, top, 0) if full else (219 * unit, 224 * unit, 16 * unit)
  planes = [luma * scales[0] + scales[2], *(d * scales[1] + 128 * unit for d in differences)]
  return np.rint(planes).clip(0, top).astype(np.uint16)


def patches(matrix, full, depth):
  """A film of 3 frames, with a square of each colour in each."""
  values = coded(COLOURS, matrix, full, depth).repeat(SIDE, 1)
  pixels = 'yuv444p' if depth == 8 else f'yuv444p{depth}le'
  file = io.BytesIO()
  with av.open(file, 'w', format='matroska') as out:
    stream = out.add_stream('ffv1', rate=10)
    stream.height, stream.width, stream.pix_fmt = SIDE, SIDE * len(COLOURS), pixels
    codec = stream.codec_context
    codec.colorspace, codec.color_range = matrix, ColorRange.JPEG if full else ColorRange.MPEG
    for number in range(3):
      frame = av.VideoFrame(stream.width, stream.height, pixels)
      frame.colorspace, frame.color_range = codec.colorspace, codec.color_range
      frame.pts, frame.time_base = number, fractions.Fraction(1, 10)
      for plane, row in zip(frame.planes, values):
        lines = np.zeros((SIDE, plane.line_size // (1 if depth == 8 else 2)), np.uint16)
        lines[:, : stream.width] = row
        plane.update(lines.astype(np.uint8 if depth == 8 else np.uint16).tobytes())
      out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return file.getvalue()


@pytest.mark.parametrize('matrix', MATRICES)
def test_colours_are_those_that_were_coded(matrix):
  for full, depth in itertools.product((False, True), (8, 10, 12)):
    result = decode.decode(patches(matrix, full, depth), fps=10.0)
    assert len(result) == 3
    middle = result[:, SIDE // 2, SIDE // 2 :: SIDE].astype(int)
    np.testing.assert_allclose(middle, np.broadcast_to(COLOURS, middle.shape), atol=3)


def frame_of_noise(rng, pixels, matrix, color_range, height, width):
  frame = av.VideoFrame(width, height, pixels)
  frame.colorspace, frame.color_range = matrix, color_range
  for plane in frame.planes:
    plane.update(rng.bytes(plane.buffer_size))
  return frame


def converted_alone(frame, height, width):
  """The frame in RGB by a conversion that FFmpeg prepares for it alone."""
  shape = dict(height=height, width=width, interpolation=colours.RESAMPLING)
  if (height, width) == (frame.height, frame.width):
    return VideoReformatter().reformat(frame, format='rgb24', threads=1).to_ndarray()
  return VideoReformatter().reformat(frame, format='gbrp', threads=1, **shape).to_ndarray()


def test_the_frame_before_does_not_change_the_colours():
  rng = np.random.default_rng(0)
  kinds = itertools.product(
    ('yuv420p', 'yuv422p', 'rgb24'), (1, 6), (ColorRange.MPEG, ColorRange.JPEG), (24, 32)
  )
  cases = [(*kind, 40, *shown) for kind in kinds for shown in ((kind[-1], 40), (12, 20), (17, 31))]
  for number in rng.permutation(len(cases)):
    *kind, height, width = cases[number]
    frame = frame_of_noise(rng, *kind)
    expected = converted_alone(frame, height, width)
    np.testing.assert_array_equal(colours.rgb(frame, height, width), expected)
