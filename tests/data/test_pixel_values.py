import io
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data import pixel_values

PATH = pathlib.Path('a')
RANGE = np.linspace(0, 1, 20).reshape(4, 5)  # shares of white
SHAPE = np.arange(20).reshape(4, 5) % 3 == 0  # of a mask
BITS, WHITE_IS_ZERO, SAMPLES = 258, 262, 339  # tags of TIFF


def opened(image, kind, **options):
  file = io.BytesIO()
  image.save(file, kind, **options)
  return Image.open(file)


def rgb(image):
  notes = []
  return pixel_values.rgb(image, PATH, notes.append), notes


def white(image):
  notes = []
  return pixel_values.white(image, PATH, notes.append), notes


def png(pixels, bits, colours, *chunks):
  """A PNG of these values, as its specification says it is written."""
  h, w = pixels.shape[:2]
  rows = pixels.astype('>u2' if bits == 16 else 'u1').reshape(h, -1)
  data = zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))
  head = struct.pack('>IIBBBBB', w, h, bits, colours, 0, 0, 0)
  parts = [(b'IHDR', head), *chunks, (b'IDAT', data), (b'IEND', b'')]
  coded = (
    struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d)) for k, d in parts
  )
  return Image.open(io.BytesIO(b'\x89PNG\r\n\x1a\n' + b''.join(coded)))


def tiff(values, bits, samples, zero_is_white=False, order='<'):
  """A TIFF of these values, as its specification says it is written."""
  if bits == 12:
    padded = np.pad(values, [(0, 0), (0, values.shape[1] % 2)]).astype(int)
    a, b = padded[:, ::2], padded[:, 1::2]
    data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], -1).astype(np.uint8)
    used = -(-values.shape[1] * 12 // 8)
    data = data.reshape(len(values), -1)[:, :used].tobytes()
  else:
    kind = {1: 'u', 2: 'i', 3: 'f'}[samples]
    data = values.astype(f'{order}{kind}{bits // 8}').tobytes()
  h, w = values.shape
  photometric = 0 if zero_is_white else 1
  tags = {256: w, 257: h, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: h}
  tags |= {279: len(data), 339: samples}
  tags[273] = 8 + 2 + 12 * len(tags) + 4
  entries = b''.join(struct.pack(f'{order}HHII', tag, 4, 1, tags[tag]) for tag in sorted(tags))
  head = (b'II' if order == '<' else b'MM') + struct.pack(f'{order}HI', 42, 8)
  directory = struct.pack(f'{order}H', len(tags)) + entries + struct.pack(f'{order}I', 0)
  return Image.open(io.BytesIO(head + directory + data))


DEEP = {
  'png': lambda shares: png(np.rint(65535 * shares), 16, 0),
  'tiff': lambda shares: tiff(np.rint(65535 * shares), 16, 1),
  'big endian': lambda shares: tiff(np.rint(65535 * shares), 16, 1, order='>'),
  '12 bits': lambda shares: tiff(np.rint(4095 * shares), 12, 1),
  'zero is white': lambda shares: tiff(np.rint(65535 * (1 - shares)), 16, 1, zero_is_white=True),
  'pgm': lambda shares: opened(Image.fromarray(np.rint(65535 * shares).astype(np.int32)), 'PPM'),
  'jpeg 2000': lambda shares: opened(
    Image.fromarray(np.rint(65535 * shares).astype(np.uint16)), 'JPEG2000'
  ),
  'float': lambda shares: tiff(shares, 32, 3),
  'float, zero is white': lambda shares: tiff(1 - shares, 32, 3, zero_is_white=True),
}


@pytest.mark.parametrize('kind', DEEP)
@pytest.mark.parametrize('brightest', [1, 20000 / 65535, 0.01])
def test_more_than_8_bits_are_scaled_by_their_range(kind, brightest):
  image = DEEP[kind](brightest * RANGE)
  assert image.mode in ('I', 'I;16', 'I;16B', 'F')
  got, notes = rgb(image)
  np.testing.assert_allclose(got, 255 * brightest * RANGE[..., None].repeat(3, -1), atol=0.51)
  assert notes == []


@pytest.mark.parametrize('kind', DEEP)
def test_a_mask_of_more_than_8_bits_is_white_above_the_middle(kind):
  got, notes = white(DEEP[kind](RANGE))
  np.testing.assert_array_equal(got, RANGE > 0.5)
  assert notes == []


def test_sixteen_bits_of_colours_are_scaled(tmp_path):
  values = np.random.default_rng(0).integers(0, 65536, (4, 5, 3))
  np.testing.assert_allclose(rgb(png(values, 16, 2))[0], values / 257, atol=1)


def test_a_deep_image_keeps_its_range_where_a_value_is_transparent():
  image = png(20000 * np.ones((4, 5)), 16, 0, (b'tRNS', struct.pack('>H', 20000)))
  got, notes = rgb(image)
  assert (got == 78).all()
  assert notes == ['a: its alpha channel is dropped.']


@pytest.mark.parametrize(
  ('kind', 'file'), [('u2', 'PNG'), ('u2', 'TIFF'), ('f4', 'TIFF'), ('u1', 'PNG'), ('u1', 'WEBP')]
)
def test_any_image_is_turned_upright(kind, file):
  exif, values = Image.Exif(), np.zeros((4, 5), kind)
  exif[0x0112] = 6  # row 0 is stored as the right column
  values[0] = {'u1': 255, 'u2': 65535, 'f4': 1}[kind]
  options = {'lossless': True} if file == 'WEBP' else {}
  image = opened(Image.fromarray(values), file, exif=exif, **options)
  want = np.zeros((5, 4), bool)
  want[:, -1] = True
  np.testing.assert_array_equal(rgb(image)[0][..., 0], 255 * want)
  np.testing.assert_array_equal(white(image)[0], want)


@pytest.mark.parametrize(
  ('image', 'reason'),
  [
    (lambda: tiff(255 * RANGE, 32, 3), r'a has floats from 0 to 255; allowed are 0 \(black\)'),
    (lambda: tiff(2 * RANGE - 1, 32, 3), 'a has floats from -1 to 1; allowed are 0'),
    (lambda: tiff(RANGE * np.nan, 32, 3), 'a has floats from nan to nan; allowed are 0'),
    (lambda: tiff(RANGE / 0.5, 32, 3), 'a has floats from 0 to 2; allowed are 0'),
    (lambda: tiff(1000 * RANGE, 32, 1), 'a has integers of 32 bits or with a sign, for which'),
    (lambda: tiff(1000 * RANGE, 32, 2), 'a has integers of 32 bits or with a sign, for which'),
    (
      lambda: tiff(-1000 * RANGE, 16, 2),
      'a has integers of 32 bits or with a sign, for which',
    ),
  ],
)
@pytest.mark.parametrize('read', [rgb, white])
def test_where_white_is_not_known_it_is_an_error(image, reason, read):
  with pytest.raises(ValueError, match=rf'^{reason}[^\n]*\.$'):
    read(image())


@pytest.mark.parametrize('value', [-0.001, 1 + 1e-7, 1.0019])
def test_what_rounds_to_a_level_is_no_error(value):
  assert set(rgb(tiff(np.full((4, 5), value), 32, 3))[0].flat) == {round(value) * 255}


ONES = {
  'gray': lambda ones: opened(Image.fromarray(ones.astype(np.uint8)), 'PNG'),
  'RGB': lambda ones: opened(
    Image.fromarray(ones.astype(np.uint8)[..., None].repeat(3, -1)), 'PNG'
  ),
  '16 bits': lambda ones: png(ones, 16, 0),
  'TIFF of 16 bits': lambda ones: tiff(ones, 16, 1),
  'TIFF of 16 bits with a sign': lambda ones: tiff(ones, 16, 2),
  'TIFF of 32 bits': lambda ones: tiff(ones, 32, 1),
  'TIFF of 32 bits with a sign': lambda ones: tiff(ones, 32, 2),
  'dark palette': lambda ones: png(ones, 8, 3, (b'PLTE', bytes([0, 0, 0, 1, 1, 1]))),
}


@pytest.mark.parametrize('kind', ONES)
def test_of_zeros_and_ones_the_ones_are_white(kind):
  got, notes = white(ONES[kind](SHAPE))
  np.testing.assert_array_equal(got, SHAPE)
  assert notes == ['a: its values are only 0 and 1, so 1 is white.']
  assert white(ONES[kind](SHAPE | True))[0].all()
  got, notes = white(ONES['gray'](SHAPE & False))
  assert not got.any()
  assert notes == []


def test_bools_and_floats_say_themselves_what_is_white():
  for image in (opened(Image.fromarray(SHAPE), 'PNG'), tiff(SHAPE, 32, 3)):
    got, notes = white(image)
    np.testing.assert_array_equal(got, SHAPE)
    assert notes == []


BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@pytest.mark.parametrize(
  ('palette', 'labels', 'want', 'is_said'),
  [
    ((BLACK, WHITE), SHAPE, SHAPE, False),
    ((WHITE, BLACK), ~SHAPE, SHAPE, False),  # quantised: the most frequent colour is first
    ((BLACK, (128, 0, 0)), SHAPE, SHAPE, True),  # an annotation of DAVIS
    ((BLACK, (128, 0, 0), (0, 128, 0)), np.where(SHAPE, 2, 0), SHAPE, True),
    ((BLACK, (128, 0, 0), WHITE), np.where(SHAPE, 2, 0), SHAPE, False),  # no label has a colour
    ((BLACK, (255, 250, 240)), SHAPE, SHAPE, False),
    (((90, 90, 90), (200, 200, 200)), SHAPE, SHAPE, False),
    (((200, 0, 0), WHITE), SHAPE, SHAPE, False),  # no labels: nothing is black
  ],
)
@pytest.mark.parametrize('kind', ['png', 'GIF'])
def test_a_palette_is_looked_up_unless_it_is_of_labels(palette, labels, want, is_said, kind):
  image = png(np.asarray(labels), 8, 3, (b'PLTE', bytes(sum(palette, ()))))
  got, notes = white(opened(image, kind) if kind != 'png' else image)
  np.testing.assert_array_equal(got, want)
  note = 'a: its palette is coloured: its values are labels, all white except 0.'
  assert notes == [note] * is_said


@pytest.mark.parametrize('colours', ['LA', 'RGBA'])
def test_what_is_transparent_counts_as_black(colours):
  full, none = (Image.new(colours, (5, 4), 'white') for _ in range(2))
  none.putalpha(0)
  full.paste(none, mask=Image.fromarray(~SHAPE))
  got, notes = white(opened(full, 'PNG'))
  np.testing.assert_array_equal(got, SHAPE)
  assert notes == ['a: its transparent pixels count as black.']
  assert white(opened(Image.new(colours, (5, 4), 'white'), 'PNG'))[1] == []


def test_a_palette_with_a_transparent_colour_is_a_mask():
  chunks = (b'PLTE', bytes([*WHITE, *WHITE])), (b'tRNS', bytes([0, 255]))
  got, notes = white(png(SHAPE, 8, 3, *chunks))
  np.testing.assert_array_equal(got, SHAPE)
  assert notes == ['a: its transparent pixels count as black.']


@pytest.mark.parametrize(
  ('mode', 'kind'),
  [
    *((mode, 'TIFF') for mode in ('CMYK', 'YCbCr', 'LAB', 'RGB', 'L', '1')),
    *((mode, 'JPEG') for mode in ('CMYK', 'YCbCr', 'RGB', 'L')),
  ],
)
def test_black_and_white_are_so_in_every_space_of_colours(mode, kind):
  large = SHAPE.repeat(16, 0).repeat(16, 1)
  if mode == 'LAB':
    pixels = np.zeros((*large.shape, 3), np.uint8)
    pixels[..., 0] = 255 * large
    image = Image.frombytes('LAB', large.shape[::-1], pixels.tobytes())
  else:
    image = Image.fromarray(np.uint8(255) * large).convert('RGB').convert(mode)
  image = opened(image, kind)
  got, notes = white(image)
  np.testing.assert_array_equal(got, large)
  assert notes == []
  np.testing.assert_allclose(rgb(image)[0], 255 * large[..., None].repeat(3, -1), atol=3)
