"""Evaluation examples are the same each time."""

import numpy as np
import pytest

from data.fixed import Fixed
from data.masks import Masked


class Numbers:
  """A data source whose examples contain their index and a random number."""

  def __init__(self, length):
    self._length = length

  def __len__(self):
    return self._length

  def draw(self, i, rng):
    return {'video': rng.integers(0, 256, (2, 4, 4, 3), np.uint8), 'caption': str(i)}


def captions(source):
  return [int(source[i]['caption']) for i in range(len(source))]


@pytest.mark.parametrize(
  ('length', 'count', 'want'),
  [
    (10, 5, [0, 2, 4, 6, 8]),
    (7, 3, [0, 2, 4]),
    (5, 64, [0, 1, 2, 3, 4]),
    (10**6, 4, [0, 250_000, 500_000, 750_000]),
  ],
)
def test_examples_are_evenly_spread_and_none_is_there_twice(length, count, want):
  assert captions(Fixed(Numbers(length), count)) == want


@pytest.mark.parametrize('source', [Numbers(9), Masked(Numbers(9), {'box': 1.0, 'tube': 1.0})])
def test_an_example_is_the_same_whenever_it_is_read(source):
  once, again = Fixed(source, 4), Fixed(source, 4)
  for i in (3, 0, 2, 1):
    first, second = once[i], again[i]
    assert first.keys() == second.keys() >= {'video', 'caption'}
    for key in first:
      np.testing.assert_array_equal(first[key], second[key])
  assert (once[0]['video'] != once[1]['video']).any()


def test_a_source_that_draws_nothing_is_read_as_it_is():
  class Still:
    """The example of an index."""

    def __len__(self):
      return 4

    def __getitem__(self, i):
      return {'caption': str(i)}

  assert captions(Fixed(Still(), 2)) == [0, 2]


def test_no_example_is_an_error():
  with pytest.raises(ValueError, match='Got 0 examples to evaluate; allowed is 1 or more'):
    Fixed(Numbers(4), 0)
