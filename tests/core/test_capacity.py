"""Limits of file formats: a video at the limit is written, and a larger one is refused."""

import pathlib
from unittest import mock

import numpy as np
import psutil
import pytest
from PIL import Image

from core import capacity, video


@pytest.fixture(autouse=True)
def memory(monkeypatch):
  """Sets the free memory, which is large at first."""

  def free(size):
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: mock.Mock(available=size))

  free(2**50)
  return free


@pytest.mark.parametrize(
  ('extension', 'height', 'width', 'reason'),
  [
    ('.webp', 2, 16_383, 'a side of .webp has at most 16,383 pixels'),
    ('.gif', 2, 65_535, 'a side of .gif has at most 65,535 pixels'),
    ('.mp4', 2, 16_384, 'a side of .mp4 has at most 16,384 pixels'),
  ],
)
def test_the_longest_side_of_a_format_is_written_and_no_longer_one(
  tmp_path, extension, height, width, reason
):
  path = tmp_path / f'a{extension}'
  video.write(path, np.zeros((1, height, width, 3), np.uint8))
  assert path.stat().st_size
  path.unlink()
  with pytest.raises(ValueError, match=f'of {width + 1}x{height} pixels: {reason}'):
    video.write(path, np.zeros((1, height, width + 1, 3), np.uint8))
  assert list(tmp_path.iterdir()) == []


def test_a_frame_of_h264_is_one_of_its_highest_level():
  """8192x4352 pixels is the largest frame that the standard lists for level 6.2."""
  path = pathlib.Path('a.mp4')
  assert capacity.fault(path, 80, 4352, 8192) == ''
  for height, width in ((4353, 8192), (4352, 8193), (6000, 6000)):
    assert 'at most 139,264 blocks' in capacity.fault(path, 80, height, width)


@pytest.mark.parametrize('extension', ['.gif', '.png', '.webp'])
def test_what_pillow_would_not_open_is_not_written(extension, monkeypatch, tmp_path):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 50)
  monkeypatch.setattr(capacity, 'PILLOW_PIXELS', 100)
  path = tmp_path / f'a{extension}'
  video.write(path, np.zeros((1, 10, 10, 3), np.uint8))
  with pytest.warns(Image.DecompressionBombWarning), Image.open(path) as image:
    assert image.size == (10, 10)
  with pytest.raises(ValueError, match='Pillow opens at most 100 pixels'):
    video.write(path, np.zeros((1, 10, 11, 3), np.uint8))
  monkeypatch.setattr(capacity, 'PILLOW_PIXELS', 1000)
  video.write(path, np.zeros((1, 10, 11, 3), np.uint8))
  with pytest.raises(Image.DecompressionBombError):
    Image.open(path)


@pytest.mark.parametrize(('extension', 'bytes_'), [('.mp4', 82), ('.webp', 30 + 4.5 * 8)])
def test_memory_that_is_not_free_is_said(memory, extension, bytes_):
  path, needed = pathlib.Path(f'a{extension}'), round(bytes_ * 1000 * 1000)
  memory(needed)
  assert capacity.fault(path, 8, 1000, 1000) == ''
  memory(needed - 1)
  message = f'that takes {needed / 2**30:.1f} GiB of memory, and {needed / 2**30:.1f} GiB are free'
  assert capacity.fault(path, 8, 1000, 1000) == message


def test_an_array_larger_than_the_disk_is_said(tmp_path):
  message = capacity.fault(tmp_path / 'none' / 'a.npy', 10**9, 1000, 1000)
  assert message.startswith('the file would have 2,793,967.7 GiB, and ')
  assert message.endswith(' GiB are free on the disk')


@pytest.mark.parametrize('name', ['a.webp', 'a.mp4', 'a.png', 'a.gif'])
def test_the_largest_factor_fits_and_the_next_does_not(name):
  path = pathlib.Path(name)
  most = capacity.max_upscale(path, 80, 8, 8, 100_000)
  assert capacity.fault(path, 80, 8 * most, 8 * most) == ''
  assert capacity.fault(path, 80, 8 * (most + 1), 8 * (most + 1)) != ''
  assert capacity.max_upscale(path, 80, 8, 8, 3) == 3
  assert capacity.max_upscale(path, 80, 100_000, 100_000, 5) == 0
