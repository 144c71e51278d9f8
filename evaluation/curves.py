"""Curves of a run's metrics, read from `metrics.jsonl` and drawn as SVG."""

import html
import itertools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from training.account import STARTED

Points = Sequence[tuple[int, float]]  # increasing steps, and values, which may be NaN
Number = float | int

WIDTH, HEIGHT = 420, 220
LOG_RATIO = 20  # the axis is logarithmic where the maximum is this many times the minimum
MIN_SMOOTHED = 50  # a curve of at least this many points is smoothed
COLUMNS = 400  # of a long curve, in each of which the minimum and the maximum are drawn

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, WIDTH - 24, 10, HEIGHT - 26


def read(path: pathlib.Path) -> dict[str, Points]:
  """All metrics of a run by name; empty where there is no such file.

  A step that was repeated after a restart has its last value; a truncated line is ignored.
  """
  metrics: dict[str, dict[int, float]] = {}
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      entry = json.loads(line)
    except json.JSONDecodeError:  # the run was killed, or is writing the line
      entry = {}
    step = entry.pop('step', 0)
    if entry.pop(STARTED, None) is not None:
      metrics = {
        name: {key: value for key, value in points.items() if key <= step}
        for name, points in metrics.items()
      }
    for name, value in entry.items():
      metrics.setdefault(name, {})[step] = math.nan if value is None else float(value)
  return {name: sorted(points.items()) for name, points in metrics.items() if points}


def smoothed(values: Float[np.ndarray, ' n']) -> Float[np.ndarray, ' n']:
  """The moving average over a twenty-fifth of the values, over fewer at the ends; NaN is
  ignored."""
  finite = np.isfinite(values)
  terms = np.where(finite, values, 0), finite
  sums, counts = (np.concatenate([[0], np.cumsum(x)]) for x in terms)
  index, radius = np.arange(len(values)), len(values) // 50
  low, high = np.maximum(index - radius, 0), np.minimum(index + radius + 1, len(values))
  with np.errstate(invalid='ignore'):  # where no value is finite
    return (sums[high] - sums[low]) / (counts[high] - counts[low])


def ticks(low: Number, high: Number, most: int = 6) -> list[float]:
  """At most `most + 2` evenly spaced round numbers, from `low` or below to `high` or above."""
  span = (high - low) or abs(high) or 1.0
  power = 10.0 ** math.floor(math.log10(span / most))
  step = next(power * m for m in (1, 2, 5, 10) if power * m * most >= span * (1 - 1e-9))
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [float(f'{i * step:.12g}') for i in range(first, max(last, first + 1) + 1)]


def log_ticks(low: Number, high: Number, most: int = 6) -> list[float]:
  """Ticks of a logarithmic axis, from `low` or below to `high` or above.

  They are 1, 2 and 5 times the powers of ten; where these are too many, the powers of ten, or every
  second, third, ... of them.
  """
  first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9) + 1
  for factors, step in itertools.chain([((1, 2, 5), 1)], (((1,), n) for n in itertools.count(1))):
    values = [float(f'{m}e{power}') for power in range(first, last + step, step) for m in factors]
    below = [i for i, tick in enumerate(values) if tick <= low * (1 + 1e-9)]
    above = [i for i, tick in enumerate(values) if tick >= high * (1 - 1e-9) and i > below[-1]]
    if above[0] - below[-1] <= most:
      return values[below[-1] : above[0] + 1]


def svg(curves: Mapping[str, Points]) -> str:
  """A chart of curves over steps; empty where no value is finite.

  A curve of many points is drawn pale, with the smoothed curve above it.  The axis is logarithmic
  where all values are positive and their range is large.  Crosses at the bottom mark values that
  are not finite.  The classes of elements are `raw`, `line` and `c0`, `c1`, ...; the page has their
  colours.
  """
  arrays = {name: np.array(points, float).reshape(-1, 2).T for name, points in curves.items()}
  steps, values = (np.concatenate([[], *(array[i] for array in arrays.values())]) for i in (0, 1))
  finite = values[np.isfinite(values)]
  if not len(finite):
    return ''
  low, high = finite.min(), finite.max()
  logarithmic = low > 0 and high >= LOG_RATIO * low
  scale = np.log10 if logarithmic else np.asarray
  x_ticks = ticks(steps.min(), steps.max())
  y_ticks = (log_ticks if logarithmic else ticks)(low, high)
  (y0, y1), (x0, x1) = scale([y_ticks[0], y_ticks[-1]]), (steps.min(), max(steps.max(), 1))
  px = lambda x: _LEFT + (x - x0) / max(x1 - x0, 1e-9) * (_RIGHT - _LEFT)
  py = lambda y: _BOTTOM - (scale(y) - y0) / (y1 - y0) * (_BOTTOM - _TOP)

  parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
  for y in y_ticks:
    parts.append(f'<path class="grid" d="M{_LEFT} {py(y):.1f}H{_RIGHT}"/>')
    parts.append(_text(_LEFT - 8, py(y) + 4, f'{y:g}', 'end'))
  for x in x_ticks:
    if x0 <= x <= x1:
      parts.append(_text(px(x), _BOTTOM + 18, f'{x:g}', 'middle'))
  for i, (name, (x, y)) in enumerate(arrays.items()):
    drawn = [(y, 'raw'), (smoothed(y), 'line')] if len(y) >= MIN_SMOOTHED else [(y, 'line')]
    for curve, kind in drawn:
      curve = np.where(np.isfinite(y), curve, np.nan)
      parts.append(_curve(px(x), py(curve), f'{kind} c{i}', name))
    parts += [_cross(px(step), i) for step in x[~np.isfinite(y)]]
  return '\n'.join([*parts, '</svg>'])


def _curve(x: Float[np.ndarray, ' n'], y: Float[np.ndarray, ' n'], kind: str, name: str) -> str:
  """A line with gaps where values are not finite; a point between two gaps is a dot."""
  parts, connected = [], False
  for i in _extremes(y):
    finite = np.isfinite(y[i])
    if finite:
      point = f'{x[i]:.1f} {y[i]:.1f}'
      parts.append(f'L{point}' if connected else f'M{point}h0')
    connected = finite
  title = f'<title>{html.escape(name)}</title>'
  return f'<path class="{kind}" d="{"".join(parts)}">{title}</path>'


def _extremes(y: Float[np.ndarray, ' n']) -> list[int]:
  """The indices to draw: all, or the minimum and the maximum of each of `COLUMNS` parts."""
  if len(y) <= 2 * COLUMNS:
    return list(range(len(y)))
  chosen = {0, len(y) - 1}
  for part in np.array_split(np.arange(len(y)), COLUMNS):
    values = np.where(np.isfinite(y[part]), y[part], y[np.isfinite(y)].mean())
    chosen |= {int(part[values.argmin()]), int(part[values.argmax()])}
    chosen |= {*part[~np.isfinite(y[part])].tolist()}
  return sorted(chosen)


def _cross(x: Number, i: int) -> str:
  return f'<path class="line c{i}" d="M{x - 4:.1f} {_BOTTOM - 8}l8 8m0 -8l-8 8"/>'


def _text(x: Number, y: Number, text: str, anchor: str) -> str:
  return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
