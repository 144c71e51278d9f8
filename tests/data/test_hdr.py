import fractions
import io

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc

from data import decode, hdr
from tests.data.test_colours import SIDE, coded

# Light of BT.2020 in cd/m2: grays from black to the peak, and colours.
LIGHT = np.array(
  [
    *([0, 0, 0], [1, 1, 1], [10, 10, 10], [50, 50, 50], [203, 203, 203], [600, 600, 600]),
    *([1000, 1000, 1000], [300, 40, 20], [20, 200, 40], [15, 30, 400], [900, 700, 100]),
  ],
  float,
)
# XYZ of the primaries and white of BT.2020 and BT.709: their chromaticities, from the standards.
CHROMATICITIES = {
  2020: ([0.708, 0.292], [0.170, 0.797], [0.131, 0.046]),
  709: ([0.64, 0.33], [0.30, 0.60], [0.15, 0.06]),
}
D65 = [0.3127, 0.3290]


def to_xyz(primaries):
  xyz = lambda x, y: [x / y, 1.0, (1 - x - y) / y]
  columns = np.array([xyz(*c) for c in CHROMATICITIES[primaries]]).T
  return columns * np.linalg.solve(columns, xyz(*D65))


def pq(light):
  """SMPTE ST 2084, Eq. 5.2: the inverse EOTF of light in cd/m2."""
  power = (light / 10_000) ** 0.1593017578125
  return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light):
  """BT.2100, Table 5: the inverse OOTF for a display of 1000 cd/m2, and the OETF."""
  luma = np.maximum(light @ [0.2627, 0.6780, 0.0593], 1e-9)[:, None]
  scene = light / 1000 * (luma / 1000) ** (1 / 1.2 - 1)
  high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
  return np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)


def film(light, transfer, depth=10):
  """A video with a square of each light: BT.2020, coded with this transfer characteristic."""
  values = {ColorTrc.SMPTE2084: pq, ColorTrc.ARIB_STD_B67: hlg}[transfer](light)
  planes = coded(255 * values, 9, full=False, depth=depth).repeat(SIDE, 1)
  pixels = f'yuv444p{depth}le'
  file = io.BytesIO()
  with av.open(file, 'w', format='matroska') as out:
    stream = out.add_stream('ffv1', rate=10)
    stream.height, stream.width, stream.pix_fmt = SIDE, SIDE * len(light), pixels
    codec = stream.codec_context
    codec.colorspace, codec.color_range = 9, ColorRange.MPEG
    codec.color_trc, codec.color_primaries = transfer, ColorPrimaries.BT2020
    frame = av.VideoFrame(stream.width, stream.height, pixels)
    frame.pts, frame.time_base = 0, fractions.Fraction(1, 10)
    for plane, row in zip(frame.planes, planes):
      lines = np.zeros((SIDE, plane.line_size // 2), np.uint16)
      lines[:, : stream.width] = row
      plane.update(lines.tobytes())
    out.mux(stream.encode(frame))
    out.mux(stream.encode())
  return file.getvalue()


def tone_mapped(light):
  """Linear light of BT.709, with diffuse white 1, by FFmpeg's own filter."""
  frame = av.VideoFrame.from_ndarray(light[None].astype(np.float32), format='gbrpf32le')
  graph = av.filter.Graph()
  source = graph.add_buffer(
    width=frame.width, height=1, format=frame.format.name, time_base=fractions.Fraction(1, 10)
  )
  peak = hdr.PEAK / hdr.WHITE
  tonemap = graph.add('tonemap', f'tonemap=mobius:param=0.3:desat=0:peak={peak}')
  graph.link_nodes(source, tonemap, graph.add('buffersink')).configure()
  graph.vpush(frame)
  return graph.vpull().to_ndarray()[0]


@pytest.mark.parametrize('transfer', [ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67])
@pytest.mark.parametrize('depth', [10, 12])
def test_light_is_mapped_as_ffmpeg_does(transfer, depth):
  to_709 = np.linalg.inv(to_xyz(709)) @ to_xyz(2020)
  light = np.maximum(LIGHT / 203 @ to_709.T, 0)
  mapped = np.clip(tone_mapped(light), 0, 1)
  srgb = np.where(mapped <= 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055)
  result = decode.decode(film(LIGHT, transfer, depth), fps=10.0)[0, SIDE // 2, SIDE // 2 :: SIDE]
  np.testing.assert_allclose(result, 255 * srgb, atol=2)  # 1.6 were measured
  assert result[4].min() > 200  # diffuse white
  assert (result[6] == 255).all()  # the peak


def test_a_reduced_film_has_the_same_colours():
  file = film(LIGHT, ColorTrc.SMPTE2084)
  whole = decode.decode(file, fps=10.0)[0].mean((0, 1))
  np.testing.assert_allclose(decode.decode(file, fps=10.0, size=8)[0].mean((0, 1)), whole, atol=2)
