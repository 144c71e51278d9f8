"""Sizes of frames: squares and others, what is cut from what, and what divides."""

import re

import numpy as np
import pytest

from core.frame_size import height_width, largest_side, require_multiples, with_shorter_side

SIZES = [(1, 1), (9, 16), (16, 9), (72, 128), (7, 3), (5, 5)]


@pytest.mark.parametrize(
  ('size', 'wanted'),
  [(8, (8, 8)), ((9, 16), (9, 16)), ([9, 16], (9, 16)), (np.int32(8), (8, 8))],
)
def test_a_size_is_a_height_and_a_width(size, wanted):
  got = height_width(size)
  assert got == wanted
  assert [type(n) for n in got] == [int, int]


@pytest.mark.parametrize('size', [0, -8, 8.0, '8', '8x8', None, (8,), (8, 8, 3), (8, 0), (8, 9.5)])
def test_no_size(size):
  message = f'Got frames of the size {size!r}; allowed is a whole number, the side of a square, or'
  with pytest.raises(ValueError, match=re.escape(message)):
    height_width(size)


@pytest.mark.parametrize('size', SIZES)
def test_the_largest_part_of_a_shape_is_found_by_trying_all(size):
  for height in range(1, 40, 5):
    for width in range(1, 40, 2):
      fits = lambda side: np.less_equal(with_shorter_side(size, side), (height, width)).all()  # noqa: B023
      sides = [side for side in range(1, 41) if fits(side)]
      assert largest_side(height, width, size) == max(sides, default=0)
  many = largest_side(np.array([3, 30]), np.array([50, 20]), size)
  assert many.tolist() == [largest_side(3, 50, size), largest_side(30, 20, size)]


@pytest.mark.parametrize('size', SIZES)
def test_a_size_with_another_shorter_side_has_the_same_proportions(size):
  assert with_shorter_side(size, min(size)) == size
  for side in range(1, 50):
    got = with_shorter_side(size, side)
    assert min(got) == side
    assert 0 <= max(got) - side * max(size) / min(size) < 1


@pytest.mark.parametrize('factor', [1, 2, 6, 32])
def test_sizes_that_do_not_divide_are_refused_with_the_nearest_that_do(factor):
  for size in ((1, 70), (32, 64), (33, 6), (72, 128), (12, 36)):
    if all(n % factor == 0 for n in size):
      require_multiples(size, factor)
      continue
    with pytest.raises(ValueError, match=f'do not divide by {factor}; allowed are') as error:
      require_multiples(size, factor)
    nearest = re.findall(r'(\d+)x(\d+)', str(error.value))[1:]
    candidates = [factor * k for k in range(1, 200)]
    for axis, n in enumerate(size):
      below = max([c for c in candidates if c <= n], default=factor)
      above = min(c for c in candidates if c >= n)
      assert {int(pair[axis]) for pair in nearest} == {below, above}
    for pair in nearest:
      require_multiples([*map(int, pair)], factor)
