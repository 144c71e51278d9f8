import numpy as np
import pytest

from benchmarks import chart


@pytest.mark.parametrize(
  ('low', 'high', 'expected'),
  [
    (0, 300, [0, 50, 100, 150, 200, 250, 300]),
    (0.13, 0.71, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]),
    (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    (0, 1e-3, [0, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3]),
  ],
)
def test_ticks_are_round_and_span_the_values(low, high, expected):
  assert chart.ticks(low, high) == expected


@pytest.mark.parametrize('value', [0.0, 0.5, -3.0, 1e5])
def test_ticks_span_a_single_value(value):
  first, *_, last = chart.ticks(value, value)
  assert first <= value <= last
  assert first < last


def test_curves_lie_as_their_values_do():
  low, high = [(0, 0.2), (100, 0.1)], [(0, 0.8), (100, 0.9)]
  image = np.asarray(chart.line_chart({'low': low, 'high': high}, x_label='x', y_label='y'))
  rows = [np.nonzero((image == colour).all(-1))[0] for colour in chart.COLOURS]
  # The legend, where the second is the lower, is short against the curves.
  assert np.median(rows[0]) > np.median(rows[1]) + 100
  columns = np.nonzero((image == chart.COLOURS[0]).all(-1))[1]
  assert columns.max() - columns.min() > 0.8 * chart.WIDTH


def test_a_strip_shows_the_first_and_the_last_frame():
  video = np.arange(0, 160, 2, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 3), np.uint8)
  strip = np.asarray(chart.filmstrip('', video))
  shown = [level for level in np.unique(strip) if level != 255]
  assert len(shown) == 8
  assert (shown[0], shown[-1]) == (0, 158)


def test_images_are_stacked_whole():
  video = np.zeros((2, 4, 4, 3), np.uint8)
  strip = chart.filmstrip('a', video)
  whole = chart.stacked([strip, strip])
  assert whole.size == (strip.width, 2 * strip.height)
  assert np.array_equal(np.asarray(whole)[strip.height :], np.asarray(strip))
