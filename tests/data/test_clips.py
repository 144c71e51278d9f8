import numpy as np
import pytest

from core import video
from data import pictures, streams, timing
from tests.data.videos import encoded


def noise(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
  ('frames', 'longer', 'message'),
  [
    (
      4,
      False,
      r'has more than 4 frames .* allowed are 4 \(0\.25 seconds\), or --clip=start to use the',
    ),
    (12, False, r'has 8 frames .* allowed are 12 \(0\.75 seconds\)\.'),
    (12, True, r'allowed are 12 \(0\.75 seconds\), or more\.'),
  ],
)
def test_a_clip_of_another_length_is_refused(tmp_path, frames, longer, message):
  video.write(tmp_path / 'v.mp4', noise(8, 16, 16, 3), fps=16.0)
  with pytest.raises(ValueError, match=message):
    pictures.read_clip(tmp_path / 'v.mp4', frames=frames, fps=16.0, longer=longer)


def test_of_a_longer_clip_the_first_frames_are_taken(tmp_path):
  pixels = np.repeat(np.arange(0, 240, 30, dtype=np.uint8)[:, None, None, None], 16, 1)
  pixels = np.repeat(np.repeat(pixels, 16, 2), 3, 3)
  video.write(tmp_path / 'v.mp4', pixels, fps=16.0)
  clip = pictures.read_clip(tmp_path / 'v.mp4', frames=5, fps=16.0, longer=True)
  np.testing.assert_allclose(clip, pixels[:5].astype(int), atol=3)


@pytest.mark.parametrize('extension', ['.gif', '.mp4', '.webp'])
def test_what_was_written_is_read_again_frame_by_frame(tmp_path, extension):
  numbers = np.arange(24)
  bits = 255 * (numbers[:, None] >> np.arange(5) & 1).astype(np.uint8)  # of each frame's number
  pixels = np.broadcast_to(bits.repeat(8, 1)[:, None, :, None], (24, 16, 40, 3))
  for fps in (12.0, 16.0, 24.0, 30.0):
    path = tmp_path / f'{fps:g}{extension}'
    video.write(path, pixels, fps=fps)
    clip = pictures.read_clip(path, frames=24, fps=fps, longer=False)
    result = ((clip[:, 8, 4::8, 0] > 127) << np.arange(5)).sum(1)
    np.testing.assert_array_equal(result, numbers, f'{extension} at {fps:g} a second')


@pytest.fixture
def long(tmp_path, monkeypatch):
  """A video of an hour, and the indices of frames that are decoded from it."""
  frames, seconds = np.zeros((3600, 16, 16, 3), np.uint8), np.arange(3600)
  (tmp_path / 'v.mkv').write_bytes(encoded(frames, 1000 * seconds))
  decoded, honest = [], streams.intact

  def intact(*args):
    for image in honest(*args):
      decoded.append(image.pts)
      yield image

  monkeypatch.setattr(streams, 'intact', intact)
  return tmp_path / 'v.mkv', decoded


def test_of_a_long_video_no_more_is_decoded_than_is_needed(long):
  path, decoded = long
  clip = pictures.read_clip(path, frames=4, fps=16.0, longer=True)
  assert clip.shape == (4, 16, 16, 3)
  with pytest.raises(ValueError, match='has more than 40 frames at 16 a second; allowed are 40'):
    pictures.read_clip(path, frames=40, fps=16.0, longer=False)
  mask = pictures.read_mask(path, np.zeros((20, 16, 16, 3), np.uint8), fps=16.0, warn=print)
  assert mask.shape == (20, 16, 16)
  # As many as an order of times needs, and one more.
  assert len(decoded) <= 3 * (timing.REORDER + 3)


def test_of_a_damaged_clip_the_reason_is_reported(tmp_path):
  frames = noise(20, 16, 16, 3)
  file = encoded(frames, np.arange(20) * 100)
  middle = len(file) // 2
  spoilt = file[:middle] + bytes(b ^ 255 for b in file[middle : middle + 9]) + file[middle + 9 :]
  (tmp_path / 'v.mkv').write_bytes(spoilt)
  with pytest.raises(
    ValueError, match=r'frames at 10 a second; allowed are 20 .*\.  Its end: .*dam'
  ):
    pictures.read_clip(tmp_path / 'v.mkv', frames=20, fps=10.0, longer=True)
  with pytest.raises(ValueError, match=r'allowed are 20 or more, or one\.  Its end: .*dam'):
    pictures.read_mask(tmp_path / 'v.mkv', frames, fps=10.0, warn=print)
