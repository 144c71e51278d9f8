"""A folder of videos, and videos whose frames can be distinguished."""

import numpy as np
import pytest


def numbered(frames, side=8):
  """A video in which the level of every frame is its index."""
  return np.tile(np.arange(frames, dtype=np.uint8)[:, None, None, None], (1, side, side, 3))


def refuse(file, reason):
  raise AssertionError(f'{file} was skipped: {reason}')


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'deep').mkdir()
  for name, frames in {'b': 9, 'a': 5, 'deep/c': 3}.items():
    np.save(tmp_path / f'{name}.npy', numbered(frames))
  (tmp_path / '.hidden.mp4').write_bytes(b'')
  (tmp_path / 'notes.txt').write_text('none')
  return tmp_path
