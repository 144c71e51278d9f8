import av
import numpy as np
import pytest
from PIL import Image

from core import video
from data import pictures
from tests.data.images import noise, refuse, written
from tests.data.videos import encoded


def read(path):
  notes = []
  return pictures.read_image(path, notes.append)[0], notes


# Where the first row and the first column of what is stored belong (Exif 2.3, Orientation).
STORED = {
  1: lambda p: p,  # top, left
  2: lambda p: p[:, ::-1],  # top, right
  3: lambda p: p[::-1, ::-1],  # bottom, right
  4: lambda p: p[::-1],  # bottom, left
  5: lambda p: p.swapaxes(0, 1),  # left, top
  6: lambda p: p.swapaxes(0, 1)[::-1],  # right, top
  7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
  8: lambda p: p.swapaxes(0, 1)[:, ::-1],  # left, bottom
}


@pytest.mark.parametrize('orientation', STORED)
def test_an_image_is_turned_upright(tmp_path, orientation):
  exif, pixels = Image.Exif(), noise(6, 9, 3)
  exif[0x0112] = orientation
  stored = np.ascontiguousarray(STORED[orientation](pixels))
  got, _ = read(written(tmp_path / 'a.png', stored, exif=exif))
  np.testing.assert_array_equal(got, pixels)


def test_alpha_is_dropped_with_a_message(tmp_path):
  pixels = noise(4, 5, 4)
  got, notes = read(written(tmp_path / 'a.png', pixels, 'RGBA'))
  np.testing.assert_array_equal(got, pixels[..., :3])
  assert notes == [f'{tmp_path}/a.png: its alpha channel is dropped.']
  assert read(written(tmp_path / 'b.png', pixels[..., :3].copy()))[1] == []


def test_gray_images_are_read(tmp_path):
  gray = noise(4, 5)
  got, _ = read(written(tmp_path / 'a.png', gray, 'L'))
  np.testing.assert_array_equal(got, np.repeat(gray[..., None], 3, -1))


def animated(path, pixels, kind, **options):
  """Pictures `n h w c`, or `n h w`, as one file of that format of Pillow."""
  first, *others = map(Image.fromarray, pixels)
  first.save(path, kind, save_all=True, append_images=others, **options)
  return path


def squares(count, side=16):
  """Masks with a white column that moves."""
  pixels = np.zeros((count, side, side), np.uint8)
  for i in range(count):
    pixels[i, :, i : i + 4] = 255
  return pixels


@pytest.mark.parametrize(
  ('kind', 'options'),
  [('GIF', {}), ('PNG', {}), ('WEBP', {'lossless': True}), ('AVIF', {}), ('TIFF', {})],
)
def test_of_an_animation_the_first_frame_is_taken_and_said(tmp_path, kind, options):
  colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
  pixels = np.array(colours, np.uint8)[:, None, None] * np.ones((1, 16, 16, 1), np.uint8)
  got, notes = read(animated(tmp_path / 'a', pixels, kind, **options))
  np.testing.assert_allclose(got, pixels[0], atol=4)
  assert notes == [f'{tmp_path}/a: only the first of its 3 frames is used.']


def test_what_else_is_in_a_photo_is_no_frame(tmp_path):
  pixels = np.repeat(noise(3, 1, 1), 16, 1).repeat(16, 2)
  path = animated(tmp_path / 'a.jpg', pixels, 'MPO')
  assert Image.open(path).n_frames == 3
  got, notes = read(path)
  np.testing.assert_allclose(got[..., 0], pixels[0], atol=2)
  assert notes == []
  small = Image.fromarray(noise(8, 8))
  big = Image.fromarray(noise(16, 16))
  big.save(tmp_path / 'b.tiff', save_all=True, append_images=[small, small])
  assert Image.open(tmp_path / 'b.tiff').n_frames == 3
  assert read(tmp_path / 'b.tiff')[1] == []
  mask = pictures.read_mask(path, np.zeros((2, 16, 16, 3), np.uint8), fps=16.0, warn=lambda _: None)
  np.testing.assert_array_equal(mask, np.full((2, 16, 16), pixels[0, 0, 0] > 127))


@pytest.mark.parametrize(
  ('kind', 'name'), [('GIF', 'm.gif'), ('PNG', 'm.png'), ('WEBP', 'm.webp'), ('AVIF', 'm.avif')]
)
def test_an_animation_is_a_video_as_a_mask(tmp_path, kind, name):
  white, like = squares(6), np.zeros((6, 16, 16, 3), np.uint8)
  path = animated(tmp_path / name, white, kind, duration=100)
  mask = pictures.read_mask(path, like, fps=10.0, warn=refuse)
  np.testing.assert_array_equal(mask, white > 127)
  with pytest.raises(ValueError, match=r'has 6 frames; allowed are 7 or more, or one\.'):
    pictures.read_mask(path, np.zeros((7, 16, 16, 3), np.uint8), fps=10.0, warn=refuse)


def test_the_pages_of_a_mask_are_the_frames(tmp_path):
  white, notes = squares(5), []
  path = animated(tmp_path / 'm.tiff', white, 'TIFF')
  like = np.zeros((4, 16, 16, 3), np.uint8)
  mask = pictures.read_mask(path, like, fps=10.0, warn=notes.append)
  np.testing.assert_array_equal(mask, white[:4] > 127)
  assert notes == [f'{path}: its 5 pages are used as frames.']
  ones = animated(tmp_path / 'ones.tiff', white // 255, 'TIFF')
  notes.clear()
  np.testing.assert_array_equal(
    pictures.read_mask(ones, like, fps=10.0, warn=notes.append), white[:4] > 127
  )
  assert notes[1:] == [f'{ones}: its values are only 0 and 1, so 1 is white.']
  with pytest.raises(ValueError, match=r'has 5 frames; allowed are 6 or more, or one\.'):
    pictures.read_mask(path, np.zeros((6, 16, 16, 3), np.uint8), fps=10.0, warn=notes.append)


def test_a_video_of_zeros_and_ones_is_a_mask(tmp_path):
  white, like = squares(4) // 255, np.zeros((4, 16, 16, 3), np.uint8)
  (tmp_path / 'm.mkv').write_bytes(encoded(white[..., None].repeat(3, -1), np.arange(4) * 100))
  mask = pictures.read_mask(tmp_path / 'm.mkv', like, fps=10.0, warn=refuse)
  np.testing.assert_array_equal(mask, white == 1)


def test_a_stream_of_mpeg_is_a_mask_though_pillow_knows_its_name(tmp_path):
  white, path = squares(8)[..., None].repeat(3, -1), tmp_path / 'm.mpg'
  with av.open(str(path), 'w', format='mpeg1video') as container:
    stream = container.add_stream('mpeg1video', rate=25)
    stream.height, stream.width, stream.pix_fmt = 16, 16, 'yuv420p'
    for pixels in white:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
    container.mux(stream.encode())
  assert Image.open(path).format == 'MPEG'
  mask = pictures.read_mask(path, white[:6], fps=25.0, warn=refuse)
  assert (mask == (white[:6, ..., 0] > 127)).mean() > 0.9


@pytest.mark.parametrize('still', [True, False])
@pytest.mark.parametrize(
  ('value', 'note'),
  [
    (0, 'm has no white pixel, so nothing is generated; white is above half of its range.'),
    (100, 'm has no white pixel, so nothing is generated; white is above half of its range.'),
    (200, 'm is white everywhere, so everything is generated and nothing is kept.'),
  ],
)
def test_a_mask_that_is_all_one_is_reported(tmp_path, still, value, note):
  pixels, notes = np.full((2, 16, 16, 3), value, np.uint8), []
  video.write(tmp_path / 'm.png', pixels) if still else video.write(tmp_path / 'm.mp4', pixels)
  (tmp_path / ('m.png' if still else 'm.mp4')).rename(tmp_path / 'm')
  mask = pictures.read_mask(tmp_path / 'm', pixels, fps=16.0, warn=notes.append)
  assert notes == [f'{tmp_path}/{note}']
  np.testing.assert_array_equal(mask, value == 200)


def test_cropping_keeps_the_middle_and_padding_keeps_all():
  frames = np.zeros((2, 8, 16, 3), np.uint8)
  frames[:, :, 4:12] = 200
  np.testing.assert_array_equal(pictures.fitted(frames, 8, 8, 'crop'), 200)
  padded = pictures.fitted(frames, 8, 8, 'pad')
  assert padded.shape == (2, 8, 8, 3)
  np.testing.assert_array_equal(padded[:, [0, 1, 6, 7]], 0)
  assert (padded[:, 2:6, 3:5] == 200).all()


@pytest.mark.parametrize('fit', pictures.FITS)
@pytest.mark.parametrize('shape', [(8, 16), (16, 8), (9, 9), (31, 12)])
@pytest.mark.parametrize('size', [(16, 16), (7, 20)])
def test_a_mask_goes_where_its_picture_goes(fit, shape, size):
  white = np.zeros(shape, bool)
  white[shape[0] // 3 : shape[0] // 2 + 2, shape[1] // 3 : shape[1] // 2 + 2] = True
  frames = np.repeat(white[None, ..., None] * np.uint8(255), 3, -1)
  mask = pictures.fitted_mask(white[None], *size, fit)
  seen = pictures.fitted(frames, *size, fit)[..., 0]
  assert mask.shape == (1, *size)
  assert mask[seen == 255].all()
  assert not mask[seen == 0].any()


def test_a_mask_of_another_size_is_resized_by_nearest_neighbours(tmp_path):
  like = np.zeros((3, 6, 8, 3), np.uint8)
  small = np.array([[0, 255], [255, 0]], np.uint8)
  mask = pictures.read_mask(written(tmp_path / 'm.png', small, 'L'), like, fps=16.0, warn=refuse)
  assert mask.shape == (3, 6, 8)
  assert mask[:, :3, 4:].all()
  assert mask[:, 3:, :4].all()
  assert mask.sum() == 3 * 24


@pytest.mark.parametrize('size', [(30, 53), (30, 54), (720, 1280), (2, 4)])
def test_a_mask_of_the_same_aspect_but_for_rounding_is_not_reported(tmp_path, size):
  like, white = np.zeros((1, 90, 160, 3), np.uint8), np.full(size, 255, np.uint8)
  white[0] = 0
  pictures.read_mask(written(tmp_path / 'm.png', white, 'L'), like, fps=16.0, warn=refuse)


@pytest.mark.parametrize('size', [(90, 90), (160, 90), (30, 50), (90, 140)])
def test_a_mask_of_another_aspect_is_stretched_with_a_warning(tmp_path, size):
  like, notes = np.zeros((1, 90, 160, 3), np.uint8), []
  path = written(tmp_path / 'm.png', 255 * np.eye(*size, dtype=np.uint8), 'L')
  mask = pictures.read_mask(path, like, fps=16.0, warn=notes.append)
  assert mask.shape == (1, 90, 160)
  assert notes == [
    f'{path} has {size[1]} x {size[0]} pixels and its video 160 x 90: the aspect ratios differ, '
    'so the mask is stretched to fit.'
  ]


def test_a_mask_may_be_a_video(tmp_path):
  like = np.zeros((8, 16, 16, 3), np.uint8)
  white = np.zeros((8, 16, 16, 3), np.uint8)
  for i in range(8):
    white[i, :, : 2 * i] = 255
  video.write(tmp_path / 'm.mp4', white, fps=16.0)
  mask = pictures.read_mask(tmp_path / 'm.mp4', like, fps=16.0, warn=refuse)
  np.testing.assert_array_equal(mask, white[..., 0] > 127)
  video.write(tmp_path / 'short.mp4', white[:4], fps=16.0)
  with pytest.raises(ValueError, match=r'has 4 frames; allowed are 8 or more, or one\.'):
    pictures.read_mask(tmp_path / 'short.mp4', like, fps=16.0, warn=refuse)


def test_a_folder_is_no_file(tmp_path):
  like = np.zeros((1, 8, 8, 3), np.uint8)
  for read in (
    lambda: pictures.read_image(tmp_path, refuse),
    lambda: pictures.read_mask(tmp_path, like, fps=16.0, warn=refuse),
    lambda: pictures.read_clip(tmp_path, frames=1, fps=16.0, longer=True),
  ):
    with pytest.raises(ValueError, match=rf'^{tmp_path} is a folder; allowed is a file\.$'):
      read()


@pytest.mark.parametrize('what', ['missing', 'text', 'truncated'])
def test_what_is_no_image_is_one_line(tmp_path, what):
  path = tmp_path / 'a.png'
  if what == 'text':
    path.write_text('not an image')
  if what == 'truncated':
    written(path, noise(64, 64, 3))
    path.write_bytes(path.read_bytes()[:2000])
  with pytest.raises(ValueError, match=str(path)):
    read(path)


@pytest.mark.parametrize(
  ('kind', 'cut', 'replaced'),
  [
    ('GIF', 20, {}),
    ('PPM', -9, {}),
    ('PPM', None, {4: 0xFF}),
    ('TIFF', None, {10: 3}),  # its width is another tag
    ('WEBP', None, {12: 0}),
    ('AVIF', 200, {}),
    ('PNG', 40, {}),
    ('ICO', -40, {}),
    ('BMP', 30, {}),
  ],
)
def test_damage_is_one_line_of_a_picture_and_of_a_mask(tmp_path, kind, cut, replaced):
  """Pillow raises errors of many kinds."""
  path, pixels = tmp_path / 'a', noise(2, 32, 32, 3)
  if kind in ('BMP', 'ICO', 'PPM'):
    Image.fromarray(pixels[0]).save(path, kind)
  else:
    animated(path, pixels, kind)
  data = bytearray(path.read_bytes()[:cut])
  for place, byte in replaced.items():
    data[place] = byte
  path.write_bytes(data)
  for reads in (
    lambda: read(path),
    lambda: pictures.read_mask(path, pixels, fps=10.0, warn=lambda note: None),
  ):
    with pytest.raises(ValueError, match=rf'^[^\n]*{path}[^\n]*$'):
      reads()
