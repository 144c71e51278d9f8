import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from core import video
from data import decode, pictures
from evaluation import clips
from evaluation.folder import open_folder

KINDS = ('webp', 'gif', 'png', 'avif')  # of which the third is APNG


def animated(kind, frames, milliseconds, **options):
  """A file with these frames, one after the other."""
  file, images = io.BytesIO(), [Image.fromarray(frame) for frame in frames]
  options |= {'save_all': True, 'append_images': images[1:], 'duration': milliseconds}
  images[0].save(file, kind, **options)
  return file.getvalue()


def gray(*levels, shape=(16, 24, 3)):
  return np.stack([np.full(shape, level, np.uint8) for level in levels])


def shown(file, **kwargs):
  return decode.decode(file, **kwargs).mean((1, 2, 3))


@pytest.mark.parametrize('kind', KINDS)
def test_each_frame_of_an_animation_is_shown_for_its_time(kind):
  levels, times = [10, 80, 150, 220], [100, 300, 100, 200]
  file = animated(kind, gray(*levels), times)
  result = shown(file, fps=10.0)
  np.testing.assert_allclose(result, np.repeat(levels, [1, 3, 1, 2]), atol=3)
  facts = decode.probe(file)
  assert (facts.frames, facts.height, facts.width, facts.fault) == (4, 16, 24, None)
  assert facts.seconds == pytest.approx(0.7)


def test_what_is_written_as_webp_is_read_again(tmp_path):
  pixels = np.repeat(np.repeat(gray(20, 60, 100, 140, 180), 4, 1), 4, 2)
  video.write(tmp_path / 'a.webp', pixels, fps=16.0, metadata={'prompt': 'a film'})
  clip = pictures.read_clip(tmp_path / 'a.webp', frames=5, fps=16.0, longer=False)
  np.testing.assert_allclose(clip, pixels.astype(int), atol=3)
  mask = pictures.read_mask(tmp_path / 'a.webp', pixels, fps=16.0, warn=print)
  assert mask[:, 0, 0].tolist() == [False, False, False, True, True]
  result = list(clips.read(tmp_path / 'a.webp', clips.Reading(5, fps=16.0)))
  np.testing.assert_array_equal(result[0], clip)
  assert open_folder(tmp_path).files == ('a.webp',)


def test_a_window_of_an_animation_is_part_of_the_whole():
  file = animated('WEBP', gray(*range(0, 240, 3)), 100, lossless=True)
  whole = shown(file, fps=10.0)
  np.testing.assert_array_equal(whole, range(0, 240, 3))
  np.testing.assert_array_equal(shown(file, fps=10.0, start=6.0, count=5), whole[60:65])


def test_a_still_webp_is_one_frame_and_a_frame_of_no_time_is_not_seen():
  still = animated('WEBP', gray(90), 0, lossless=True)
  assert shown(still, fps=None).tolist() == [90]
  file = animated('WEBP', gray(10, 50, 90), [100, 0, 100], lossless=True)
  assert shown(file, fps=10.0).tolist() == [10, 90]
  assert shown(file, fps=None).tolist() == [10, 50, 90]


def test_a_webp_is_turned_as_its_tag_says():
  exif, frames = Image.Exif(), np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)
  exif[ExifTags.Base.Orientation] = 8  # the first row is at the left, and goes up
  file = animated('WEBP', frames, 100, lossless=True, exif=exif)
  np.testing.assert_array_equal(decode.decode(file, fps=None), np.rot90(frames, 1, (1, 2)))
  assert (decode.probe(file).height, decode.probe(file).width) == (24, 16)


@pytest.mark.parametrize('count', [1, 2])
def test_a_webp_whose_tags_are_damaged_is_refused(tmp_path, count):
  exif, path = Image.Exif(), tmp_path / 'a.webp'
  exif[ExifTags.Base.Orientation], exif[ExifTags.Base.ImageDescription] = 8, 'gray'
  file = animated('WEBP', gray(*range(count)), 100, exif=exif)
  # The text becomes that of a tag which is a number.
  path.write_bytes(file.replace(b'\x01\x0e\x00\x02', b'\x01\x00\x00\x02'))
  with pytest.raises(ValueError, match=r'a\.webp: damaged, no decodable frame: '):
    decode.probe(path)
  like = np.zeros((1, 16, 24, 3), np.uint8)
  for read in (
    lambda: pictures.read_image(path, print),
    lambda: pictures.read_mask(path, like, fps=16.0, warn=print),
  ):
    with pytest.raises(ValueError, match=r'Cannot read the EXIF data of|a\.webp: damaged, no '):
      read()


@pytest.mark.parametrize('kind', ['webp', 'png', 'avif'])
def test_transparent_pixels_lie_on_black_except_in_avif(kind):
  frames = np.random.default_rng(0).integers(1, 256, (4, 64, 64, 4), np.uint8)
  frames[..., :3] = np.array([40, 90, 140, 190])[:, None, None, None]
  # In AVIF, alpha is a stream of its own, here of more bits than that of the colours, and ignored.
  file = animated(kind, frames, 100, **({'lossless': True} if kind == 'webp' else {}))
  shown = frames[..., :3] * (1 if kind == 'avif' else frames[..., 3:] / 255)
  np.testing.assert_allclose(decode.decode(file, fps=None), shown, atol=3 if kind == 'avif' else 1)


def test_a_damaged_or_enormous_webp_is_refused(tmp_path, monkeypatch):
  file = animated('WEBP', gray(10, 50, 90), 100)
  (tmp_path / 'cut.webp').write_bytes(file[: len(file) // 2])
  with pytest.raises(ValueError, match=r'cut\.webp: damaged, no decodable frame: could not'):
    decode.decode(tmp_path / 'cut.webp')
  with pytest.raises(ValueError, match=r'^damaged, no decodable frame: '):
    decode.probe(file[:40])
  monkeypatch.setattr(decode, 'MAX_PIXELS', 16 * 24 - 1)
  with pytest.raises(ValueError, match='frames of 24 x 16 pixels; at most 383 are allowed'):
    decode.decode(file)
