import numpy as np

from benchmarks import chart


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
