import io
import json
import os
import pathlib

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from core import video

METADATA = {'prompt': 'a café, "red" & round', 'seed': '7', 'model': 't2v step 3'}
ANIMATED = ('.gif', '.mp4', '.webp')


def clip(t=6, h=32, w=48):
  """A bright square that moves right over a gradient: all frames differ."""
  ramp = np.linspace(0, 120, w).astype(np.uint8)
  pixels = np.tile(ramp[None, None, :, None], (t, h, 1, 3))
  for i in range(t):
    pixels[i, 8:24, 4 + 4 * i : 20 + 4 * i] = (250, 60, 20)
  return pixels


def read(path):
  """The decoded RGB frames and the times in seconds at which they are shown."""
  if path.suffix == '.mp4':
    with av.open(str(path)) as container:
      frames = list(container.decode(video=0))
      return np.stack([f.to_ndarray(format='rgb24') for f in frames]), [f.time for f in frames]
  with Image.open(path) as image:
    frames = [
      (np.asarray(f.convert('RGB')), f.info['duration']) for f in ImageSequence.Iterator(image)
    ]
  begins = np.cumsum([0, *(d for _, d in frames)])[:-1] / 1000
  return np.stack([f for f, _ in frames]), list(begins)


def test_pixels_and_numbers_are_one_convention():
  every = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(video.to_uint8(video.to_float(every)), every)
  np.testing.assert_array_equal(video.to_float(np.uint8([0, 255])), np.float32([-1, 1]))
  np.testing.assert_array_equal(video.to_uint8(np.float32([-9, 0.0, 9])), [0, 128, 255])
  with pytest.raises(ValueError, match='1 of 2 values of the video are NaN'):
    video.to_uint8(np.float32([0, np.nan]))


@pytest.mark.parametrize('extension', ANIMATED)
def test_what_is_written_is_seen(tmp_path, extension):
  path, pixels = tmp_path / f'a{extension}', clip()
  video.write(path, pixels, fps=10.0, metadata=METADATA)
  seen, begins = read(path)
  assert seen.shape == pixels.shape
  # 4:2:0 blurs coloured edges; elsewhere the error of the encoder is small.
  assert np.abs(seen.astype(float) - pixels).mean() < 4
  for i in range(len(pixels)):
    np.testing.assert_allclose(seen[i, 16, 12 + 4 * i], (250, 60, 20), atol=8)
  np.testing.assert_allclose(begins, np.arange(6) / 10, atol=1e-6)


@pytest.mark.parametrize('extension', ANIMATED)
def test_time_does_not_drift_at_rates_that_are_no_whole_milliseconds(tmp_path, extension):
  path = tmp_path / f'a{extension}'
  video.write(path, clip(16, 16, 128), fps=16.0)
  early = np.arange(16) / 16 - read(path)[1]
  assert (early > -1e-6).all()  # otherwise a reader of that time gets the previous frame
  assert (early < 0.01).all()


def test_png_is_the_first_frame_and_npy_is_all_of_them(tmp_path):
  pixels = clip()
  video.write(tmp_path / 'a.png', pixels)
  video.write(tmp_path / 'a.npy', pixels)
  np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'a.png')), pixels[0])
  np.testing.assert_array_equal(np.load(tmp_path / 'a.npy'), pixels)


@pytest.mark.parametrize('extension', sorted({*video.EXTENSIONS} - {'.npy'}))
def test_metadata_is_read_back(tmp_path, extension):
  video.write(tmp_path / f'a{extension}', clip(), metadata=METADATA)
  assert video.read_metadata(tmp_path / f'a{extension}') == METADATA
  video.write(tmp_path / f'b{extension}', clip())
  assert video.read_metadata(tmp_path / f'b{extension}') == {}


def test_other_programs_find_the_prompt_in_an_mp4(tmp_path):
  video.write(tmp_path / 'a.mp4', clip(), metadata=METADATA)
  with av.open(str(tmp_path / 'a.mp4')) as container:
    assert container.metadata['title'] == METADATA['prompt']
    assert json.loads(container.metadata['comment']) == METADATA


def test_npy_has_no_metadata(tmp_path):
  message = r"No metadata in '\.npy' files\.  Allowed: \.gif, \.mp4, \.png, \.webp\."
  with pytest.raises(ValueError, match=message):
    video.read_metadata(tmp_path / 'a.npy')


@pytest.mark.parametrize('extension', video.EXTENSIONS)
def test_equal_videos_make_equal_files(tmp_path, extension):
  for name in 'ab':
    video.write(tmp_path / f'{name}{extension}', clip(), metadata=METADATA)
  assert (tmp_path / f'a{extension}').read_bytes() == (tmp_path / f'b{extension}').read_bytes()


def test_an_mp4_of_odd_sides_is_padded(tmp_path):
  pixels = clip(3, 31, 47)
  video.write(tmp_path / 'a.mp4', pixels)
  seen, _ = read(tmp_path / 'a.mp4')
  assert seen.shape == (3, 32, 48, 3)
  assert np.abs(seen[:, :31, :47].astype(float) - pixels).mean() < 4


def test_an_mp4_streams_and_says_its_colours(tmp_path):
  video.write(tmp_path / 'a.mp4', clip())
  data = (tmp_path / 'a.mp4').read_bytes()
  assert data.index(b'moov') < data.index(b'mdat')
  with av.open(io.BytesIO(data)) as container:
    frame = next(container.decode(video=0))
    assert container.streams.video[0].codec_context.name == 'h264'
    assert (frame.format.name, frame.colorspace, frame.color_range) == ('yuv420p', 1, 1)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
  path = tmp_path / 'a.npy'
  path.write_bytes(b'old')

  def disk_full(file, array):
    file.write(b'half')
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(np.lib.format, 'write_array_header_1_0', disk_full)
  with pytest.raises(OSError, match=r'Cannot write .*a\.npy: No space left on device\.'):
    video.write(path, clip())
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['a.npy']


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
  for pixels in (clip(2), clip(3)):
    video.write(tmp_path / 'a.MP4', pixels)
  assert os.listdir(tmp_path) == ['a.MP4']
  assert len(read((tmp_path / 'a.MP4').rename(tmp_path / 'a.mp4'))[0]) == 3


@pytest.mark.parametrize('check', [video.check_writable, lambda path: video.write(path, clip())])
@pytest.mark.parametrize(
  ('name', 'error', 'message'),
  [
    (
      'a.avi',
      ValueError,
      r"its extension is '\.avi'; allowed are \.gif, \.mp4, \.npy, \.png, \.webp\.",
    ),
    ('a', ValueError, "its extension is ''"),
    ('none/a.mp4', OSError, r'Cannot write .*none/a\.mp4: No such file or directory\.'),
    ('file/a.mp4', OSError, r'Cannot write .*file/a\.mp4: Not a directory\.'),
    ('folder.mp4', OSError, r'Cannot write .*folder\.mp4: (it is a folder|Is a directory)\.'),
  ],
)
def test_what_cannot_be_written(tmp_path, check, name, error, message):
  (tmp_path / 'file').touch()
  (tmp_path / 'folder.mp4').mkdir()
  before = sorted(os.listdir(tmp_path))
  with pytest.raises(error, match=message):
    check(tmp_path / name)
  assert sorted(os.listdir(tmp_path)) == before


def test_checking_makes_nothing(tmp_path):
  video.check_writable(tmp_path / 'a.mp4')
  assert os.listdir(tmp_path) == []
  if pathlib.Path('/proc').is_dir():  # where not even root may write
    with pytest.raises(OSError, match=r'Cannot write /proc/a\.mp4'):
      video.check_writable('/proc/a.mp4')


def test_a_rate_must_be_positive(tmp_path):
  with pytest.raises(ValueError, match=r'Got 0\.0 frames a second; allowed is any positive number'):
    video.write(tmp_path / 'a.mp4', clip(), fps=0.0)


def test_the_slice_of_a_moving_dot_is_its_track():
  pixels = np.zeros((8, 5, 16, 3), np.uint8)
  for i in range(8):
    pixels[i, 2, 2 * i] = 255
  track = video.xt_slice(pixels)
  assert track.shape == (8, 16, 3)
  np.testing.assert_array_equal(np.argwhere(track[..., 0])[:, 1], 2 * np.arange(8))
  assert not video.xt_slice(pixels, row=1).any()
  np.testing.assert_array_equal(np.argwhere(video.xt_slice(pixels, column=6)[..., 0]), [[3, 2]])


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(row=5), r'Row 5 is not in the video; allowed are 0 to 4\.'),
    (dict(row=-1), r'Row -1 is not'),
    (dict(column=16), r'Column 16 is not in the video; allowed are 0 to 15\.'),
    (dict(row=1, column=1), r'Got row 1 and column 1; allowed is one of the two\.'),
  ],
)
def test_a_slice_that_is_not_there(options, message):
  with pytest.raises(ValueError, match=message):
    video.xt_slice(np.zeros((8, 5, 16, 3), np.uint8), **options)


def test_upscaling_repeats_pixels():
  pixels = clip(2, 8, 8)
  large = video.upscaled(pixels, 3)
  for i, j in np.ndindex(3, 3):
    np.testing.assert_array_equal(large[:, i::3, j::3], pixels)
  with pytest.raises(ValueError, match=r'Got a factor of 0; allowed is 1 or more\.'):
    video.upscaled(pixels, 0)


@pytest.mark.parametrize('extension', sorted({*video.EXTENSIONS} - {'.gif'}))
def test_a_video_is_enlarged_as_it_is_written(tmp_path, extension):
  video.write(tmp_path / f'a{extension}', clip(2, 8, 9), upscale=3)
  video.write(tmp_path / f'b{extension}', video.upscaled(clip(2, 8, 9), 3))
  assert (tmp_path / f'a{extension}').read_bytes() == (tmp_path / f'b{extension}').read_bytes()


def test_a_gif_has_the_same_colours_however_large_it_is(tmp_path):
  video.write(tmp_path / 'small.gif', clip(2, 8, 9))
  video.write(tmp_path / 'large.gif', clip(2, 8, 9), upscale=3)
  small, large = (read(tmp_path / f'{name}.gif')[0] for name in ('small', 'large'))
  np.testing.assert_array_equal(large, video.upscaled(small, 3))
