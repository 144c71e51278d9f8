"""Square crops of one picture, on which a style is trained."""

import numpy as np
import pytest

from data import pictures, transforms
from tests.data.images import noise, written


def test_a_picture_is_a_source_of_its_squares(tmp_path):
  path, notes = written(tmp_path / 'a.png', noise(40, 30, 4), 'RGBA'), []
  source = pictures.Picture(path, 'in neon style', 16, warn=notes.append)
  assert notes == [f'{path}: its alpha channel is dropped.']
  first, second = (source.draw(0, np.random.default_rng(i)) for i in (0, 1))
  assert first['video'].shape == (1, 16, 16, 3)
  assert first['caption'] == 'in neon style'
  assert (first['video'] != second['video']).any()


@pytest.mark.parametrize(('height', 'width'), [(16, 16), (20, 31), (100, 40)])
def test_a_square_of_a_picture_is_not_enlarged(tmp_path, monkeypatch, height, width):
  sides, crop = set(), transforms.random_crop

  def watched(frames, size, rng):
    sides.add(size[0])
    assert size[0] == size[1]
    return crop(frames, size, rng)

  monkeypatch.setattr(transforms, 'random_crop', watched)
  source = pictures.Picture(
    written(tmp_path / 'a.png', noise(height, width, 3)), 'a style', 16, warn=list
  )
  for i in range(100):
    source.draw(0, np.random.default_rng(i))
  assert (min(sides), max(sides)) == (max(min(height, width) // 2, 16), min(height, width))


@pytest.mark.parametrize(('height', 'width'), [(18, 32), (40, 40), (60, 33)])
def test_parts_of_another_shape_are_neither_enlarged_nor_stretched(tmp_path, height, width):
  # The pixels have their places as colours, four levels apart across and down.
  places = 4 * np.stack([*np.mgrid[:height, :width], np.zeros((height, width), int)], -1)
  path = written(tmp_path / 'a.png', places.astype(np.uint8))
  source, steps = pictures.Picture(path, 'a style', (18, 32), warn=list), set()
  for i in range(40):
    [part] = source.draw(0, np.random.default_rng(i))['video'].astype(int)
    assert part.shape == (18, 32, 3)
    down, across = np.ptp(part[1:-1, 1, 0]) / 15, np.ptp(part[1, 1:-1, 1]) / 29
    assert down == pytest.approx(across, rel=0.06)
    assert down > 3.9
    steps.add(round(down))
  assert len(steps) == 1 or max(width / 32, height / 18) > 1


@pytest.mark.parametrize(('height', 'width'), [(15, 40), (40, 15), (8, 8)])
def test_a_picture_that_would_be_enlarged_is_refused(tmp_path, height, width):
  path = written(tmp_path / 'a.png', noise(height, width, 3))
  with pytest.raises(ValueError, match='are needed') as error:
    pictures.Picture(path, 'a style', 16, warn=list)
  assert str(error.value) == (
    f'{path} has {width} x {height} pixels; to train on it without enlarging it, at least 16 x 16 '
    'are needed.'
  )
