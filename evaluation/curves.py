"""What a run told of its steps, as curves: read from `metrics.jsonl` and drawn as SVG."""

import html
import itertools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from training.account import STARTED

Points = Sequence[tuple[int, float]]  # steps in order, and values; NaN where it was no number
Number = float | int

WIDTH, HEIGHT = 420, 220
RANGE = 20  # times the least that the largest has to be for an axis of powers
MANY = 50  # points, from which on a curve is smoothed
MOST = 400  # columns of a curve, of which the least and the largest value are drawn

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, WIDTH - 24, 10, HEIGHT - 26


def read(path: pathlib.Path) -> dict[str, Points]:
  """Every metric of a run by its name; none where there is no such file.

  What was told of steps that a later start made again is not among them, nor is a line cut short.
  """
  found: dict[str, dict[int, float]] = {}
  for line in path.read_text().splitlines() if path.exists() else []:
    try:
      told = json.loads(line)
    except json.JSONDecodeError:  # of a run that was killed, or is writing just now
      told = {}
    step = told.pop('step', 0)
    if told.pop(STARTED, None) is not None:
      found = {name: {at: v for at, v in of.items() if at <= step} for name, of in found.items()}
    for name, value in told.items():
      found.setdefault(name, {})[step] = math.nan if value is None else float(value)
  return {name: sorted(of.items()) for name, of in found.items() if of}


def smoothed(values: Float[np.ndarray, ' n']) -> Float[np.ndarray, ' n']:
  """The mean of a twenty-fifth of the values, around each, of fewer at the ends; NaN counts for
  nothing."""
  known = np.isfinite(values)
  sums, counts = (np.concatenate([[0], np.cumsum(x)]) for x in (np.where(known, values, 0), known))
  at, reach = np.arange(len(values)), len(values) // 50
  low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
  with np.errstate(invalid='ignore'):  # where none is known
    return (sums[high] - sums[low]) / (counts[high] - counts[low])


def ticks(low: Number, high: Number, most: int = 6) -> list[float]:
  """At most `most + 2` evenly spaced round numbers, from `low` or below to `high` or above."""
  span = (high - low) or abs(high) or 1.0
  power = 10.0 ** math.floor(math.log10(span / most))
  step = next(power * m for m in (1, 2, 5, 10) if power * m * most >= span * (1 - 1e-9))
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [float(f'{i * step:.12g}') for i in range(first, max(last, first + 1) + 1)]


def power_ticks(low: Number, high: Number, most: int = 6) -> list[float]:
  """Ticks of an axis of powers, from `low` or below to `high` or above: one, two and five times the
  powers of ten, or these alone, or every second, third, ... of them, where there would be more."""
  first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9) + 1
  for factors, step in itertools.chain([((1, 2, 5), 1)], (((1,), n) for n in itertools.count(1))):
    all_ = [float(f'{m}e{power}') for power in range(first, last + step, step) for m in factors]
    below = [i for i, tick in enumerate(all_) if tick <= low * (1 + 1e-9)]
    above = [i for i, tick in enumerate(all_) if tick >= high * (1 - 1e-9) and i > below[-1]]
    if above[0] - below[-1] <= most:
      return all_[below[-1] : above[0] + 1]


def svg(curves: Mapping[str, Points]) -> str:
  """A chart of curves over steps, or nothing where they have no number.

  Those of many points are drawn pale, and smoothed above.  Where all values are positive and spread
  widely, the axis has powers.  Crosses at the bottom are steps whose value is no number.  Classes
  of elements are `raw`, `line` and `c0`, `c1`, ...: a page gives them colours.
  """
  arrays = {name: np.array(points, float).reshape(-1, 2).T for name, points in curves.items()}
  steps, values = (np.concatenate([[], *(of[i] for of in arrays.values())]) for i in (0, 1))
  known = values[np.isfinite(values)]
  if not len(known):
    return ''
  low, high = known.min(), known.max()
  powers = low > 0 and high >= RANGE * low
  scale = np.log10 if powers else np.asarray
  x_ticks = ticks(steps.min(), steps.max())
  y_ticks = (power_ticks if powers else ticks)(low, high)
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
    drawn = [(y, 'raw'), (smoothed(y), 'line')] if len(y) >= MANY else [(y, 'line')]
    for of, kind in drawn:
      parts.append(_curve(px(x), py(np.where(np.isfinite(y), of, np.nan)), f'{kind} c{i}', name))
    parts += [_cross(px(at), i) for at in x[~np.isfinite(y)]]
  return '\n'.join([*parts, '</svg>'])


def _curve(x: Float[np.ndarray, ' n'], y: Float[np.ndarray, ' n'], kind: str, name: str) -> str:
  """A line, broken where there is no number; a point that stands alone is a dot."""
  parts, last = [], False
  for i in _extremes(y):
    here = np.isfinite(y[i])
    if here:
      parts.append(f'{"L" if last else "M"}{x[i]:.1f} {y[i]:.1f}' + ('' if last else 'h0'))
    last = here
  title = f'<title>{html.escape(name)}</title>'
  return f'<path class="{kind}" d="{"".join(parts)}">{title}</path>'


def _extremes(y: Float[np.ndarray, ' n']) -> list[int]:
  """The indices to draw: all, or of each of so many parts the least and the largest value."""
  if len(y) <= 2 * MOST:
    return list(range(len(y)))
  chosen = {0, len(y) - 1}
  for part in np.array_split(np.arange(len(y)), MOST):
    of = np.where(np.isfinite(y[part]), y[part], y[np.isfinite(y)].mean())
    chosen |= {
      int(part[of.argmin()]),
      int(part[of.argmax()]),
      *part[~np.isfinite(y[part])].tolist(),
    }
  return sorted(chosen)


def _cross(x: Number, i: int) -> str:
  return f'<path class="line c{i}" d="M{x - 4:.1f} {_BOTTOM - 8}l8 8m0 -8l-8 8"/>'


def _text(x: Number, y: Number, text: str, anchor: str) -> str:
  return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
