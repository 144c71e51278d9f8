import io

import av
import numpy as np
import pytest
from PIL import ExifTags, Image

from data import captions, decode, orientation
from tests.data.videos import built, encoded, numbered, packed

# Where the first row and the first column of what is stored belong (Exif 2.3, Orientation).
UPRIGHT = {
  1: lambda p: p,  # top, left
  2: lambda p: p[:, ::-1],  # top, right
  3: lambda p: p[::-1, ::-1],  # bottom, right
  4: lambda p: p[::-1],  # bottom, left
  5: lambda p: p.swapaxes(0, 1),  # left, top
  6: lambda p: p.swapaxes(0, 1)[:, ::-1],  # right, top
  7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
  8: lambda p: p.swapaxes(0, 1)[::-1],  # left, bottom
}
BLOCKS = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
STORED = np.repeat(np.repeat(BLOCKS, 16, 0), 16, 1)


def camera(container, codec, tag):
  """A video of 12 pictures in a second, each with EXIF, as cameras for time lapses write it."""
  exif, picture = Image.Exif(), io.BytesIO()
  exif[ExifTags.Base.Orientation] = tag
  exif[ExifTags.Base.Model] = 'a camera'
  lossless = {} if codec == 'png' else {'quality': 98, 'subsampling': 0}
  Image.fromarray(STORED).save(picture, 'PNG' if codec == 'png' else 'JPEG', exif=exif, **lossless)
  pixels = 'rgb24' if codec == 'png' else 'yuvj444p'
  return packed([picture.getvalue()] * 12, codec, container, pixels, STORED.shape[:2])


@pytest.mark.parametrize('tag', UPRIGHT)
@pytest.mark.parametrize('source', [('mov', 'png'), ('matroska', 'mjpeg'), ('avi', 'mjpeg')])
def test_pictures_with_exif_are_read_and_turned_as_it_tells(tag, source):
  file = camera(*source, tag)
  upright = UPRIGHT[tag](STORED)
  facts = decode.probe(file)
  assert (facts.frames, facts.height, facts.width, facts.fault) == (12, *upright.shape[:2], None)
  assert facts.seconds == pytest.approx(1.0, abs=0.01)
  result = decode.decode(file, fps=None)
  assert result.shape == (12, *upright.shape)
  np.testing.assert_allclose(result[5].astype(int), upright, atol=0 if source[1] == 'png' else 6)


def test_pictures_with_exif_make_a_dataset(tmp_path):
  (tmp_path / 'videos').mkdir()
  (tmp_path / 'videos' / 'lapse.mkv').write_bytes(camera('matroska', 'mjpeg', 6))
  lines = {'lapse.mkv': captions.Line('clouds', 'train')}
  report = built(tmp_path / 'videos', lines, tmp_path / 'out', min_frames=8, workers=1)
  assert (report['written'], report['damaged'], report['skipped']) == (1, {}, {})


def test_side_data_that_has_a_name_is_left_where_another_has_none():
  with av.open(io.BytesIO(camera('mov', 'png', 6))) as container:
    frame = next(container.decode(video=0))
  if int(av.__version__.split('.')[0]) < 19:  # which cannot list a kind that has no name
    with pytest.raises(ValueError, match='is not a valid Type'):
      list(frame.side_data)
  assert orientation.of_frame(frame) == (True, True, False)


def test_a_frame_without_side_data_is_as_it_is():
  with av.open(io.BytesIO(encoded(numbered(1), [0]))) as container:
    assert orientation.of_frame(next(container.decode(video=0))) == (False, False, False)
