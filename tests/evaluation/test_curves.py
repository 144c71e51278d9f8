import json
import math
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from evaluation import curves
from evaluation.curves import (
  HEIGHT,
  LOG_RATIO,
  MIN_SMOOTHED,
  WIDTH,
  log_ticks,
  read,
  smoothed,
  svg,
  ticks,
)


def written(tmp_path, *lines):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(
    ''.join(line if isinstance(line, str) else json.dumps(line) + '\n' for line in lines)
  )
  return path


def drawn(text):
  """The numbers of each line of a chart: kind, and its points (x, y)."""
  result = []
  for path in xml.etree.ElementTree.fromstring(text).iter('path'):
    points = re.findall(r'[ML]([\d.]+) ([\d.]+)', path.get('d'))
    result.append((path.get('class'), np.array(points, float)))
  return [one for one in result if one[0] != 'grid']


def test_metrics_are_read_by_name(tmp_path):
  path = written(
    tmp_path,
    {'step': 0, 'started': 5.0},
    {'step': 0, 'evaluation_loss': 2},
    {'step': 1, 'loss': 1.5},
    {'step': 2, 'loss': None},
    "{'step': 3, 'lo",
  )
  result = read(path)
  assert result['evaluation_loss'] == [(0, 2.0)]
  assert result['loss'][0] == (1, 1.5)
  assert math.isnan(result['loss'][1][1])
  assert set(result) == {'evaluation_loss', 'loss'}
  assert read(tmp_path / 'none') == {}


def test_steps_that_were_made_again_count_once(tmp_path):
  first = [{'step': i, 'loss': 1.0, 'old': 1} for i in (2, 4, 6)]
  again = [{'step': i, 'loss': 3.0} for i in (5, 6)]
  path = written(tmp_path, {'step': 0, 'started': 1}, *first, {'step': 4, 'started': 2}, *again)
  assert read(path) == {'loss': [(2, 1), (4, 1), (5, 3), (6, 3)], 'old': [(2, 1), (4, 1)]}


def test_a_straight_line_is_smooth_already():
  line = 3.0 - 0.5 * np.arange(300)
  assert np.allclose(smoothed(line)[6:-6], line[6:-6], rtol=0, atol=1e-9)
  assert smoothed(line)[0] == pytest.approx(line[:7].mean())
  assert np.array_equal(smoothed(line[:49]), line[:49])  # too few to smooth


def test_smoothing_leaves_a_part_of_noise_and_what_is_no_number():
  noise = np.random.default_rng(0).standard_normal(5000)
  within = smoothed(noise)[100:-100]  # the mean of 201
  assert within.std() == pytest.approx(201**-0.5, rel=0.2)
  noise[::2] = np.nan
  assert np.isfinite(smoothed(noise)[1:-1]).all()


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
  assert ticks(low, high) == expected


@pytest.mark.parametrize('value', [0.0, 0.5, -3.0, 1e5])
def test_ticks_span_a_single_value(value):
  first, *_, last = ticks(value, value)
  assert first <= value <= last
  assert first < last


@pytest.mark.parametrize(
  ('low', 'high', 'expected'),
  [
    (0.03, 0.9, [0.02, 0.05, 0.1, 0.2, 0.5, 1]),
    (1, 50, [1, 2, 5, 10, 20, 50]),
    (0.02, 3, [0.01, 0.1, 1, 10]),
    (1, 1000, [1, 10, 100, 1000]),
    (2e-9, 10, [1e-9, 1e-7, 1e-5, 1e-3, 1e-1, 10]),
    (1, 1, [1, 2]),
  ],
)
def test_ticks_of_powers_span_the_values(low, high, expected):
  assert log_ticks(low, high) == expected


def test_a_line_lies_as_its_values_do():
  ((kind, points),) = drawn(svg({'loss': [(0, 0.0), (50, 0.25), (100, 1.0)]}))
  assert kind == 'line c0'
  x, y = points.T
  assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(0.5, abs=1e-3)
  assert (y[0] - y[1]) / (y[0] - y[2]) == pytest.approx(0.25, abs=1e-3)
  assert x.min() >= 0
  assert x.max() <= WIDTH
  assert y.min() >= 0
  assert y.max() <= HEIGHT


def test_what_spreads_widely_is_drawn_by_powers():
  high = float(LOG_RATIO)
  ((_, points),) = drawn(svg({'loss': [(0, 1.0), (1, high**0.5), (2, high)]}))
  y = points[:, 1]
  assert (y[0] - y[1]) / (y[0] - y[2]) == pytest.approx(0.5, abs=1e-2)
  ((_, points),) = drawn(svg({'loss': [(0, 0.0), (1, high**0.5), (2, high)]}))
  y = points[:, 1]
  assert (y[0] - y[1]) / (y[0] - y[2]) == pytest.approx(high**-0.5, abs=1e-2)


def test_curves_are_drawn_raw_and_smooth():
  points = [(i, float(i % 2)) for i in range(200)]
  raw, smooth = drawn(svg({'loss': points}))
  assert (raw[0], smooth[0]) == ('raw c0', 'line c0')
  assert np.ptp(smooth[1][5:-5, 1]) < 0.3 * np.ptp(raw[1][:, 1])
  few = points[: MIN_SMOOTHED - 1]
  assert [kind for kind, _ in drawn(svg({'a': few, 'b': few}))] == ['line c0', 'line c1']


def test_a_line_is_broken_where_there_is_no_number_and_crossed_out_there():
  nan = math.nan
  text = svg({'loss': [(0, 1.0), (1, 2.0), (2, nan), (3, 1.0)]})
  line, cross = drawn(text)
  assert len(line[1]) == 3
  assert xml.etree.ElementTree.fromstring(text).findall('path')[-2].get('d').count('M') == 2
  assert 0 < cross[1][0, 0] < WIDTH
  assert svg({'loss': [(0, nan)]}) == svg({}) == ''


def test_a_long_curve_keeps_its_extremes():
  values = np.sin(np.arange(20000) / 900)
  values[7777], values[12345] = 9, -9
  (_, points), _ = drawn(svg({'loss': list(enumerate(values.tolist()))}))
  assert len(points) <= 2 * curves.COLUMNS + 2
  ((_, extremes),) = drawn(svg({'loss': [(0, 9.0), (1, -9.0)]}))
  assert points[:, 1].min() == extremes[0, 1]
  assert points[:, 1].max() == extremes[1, 1]


def test_a_name_is_no_markup():
  assert '<b>' not in svg({'<b>': [(0, 1.0)]})
