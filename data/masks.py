"""What a model is shown of a clip while it learns to make the rest (Lumiere, Sec. 4.2).

A mask is true where the clip is given.  Lengths are drawn as fractions of the frame's side.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool

from core.errors import UserError

Mask = Bool[np.ndarray, 't h w']
Shape = tuple[int, int, int]  # t h w

FEWEST, MOST = 0.25, 0.75  # of a frame's side that a hidden region has
BORDER = 0.35  # of a frame's side: the most that is hidden at an edge


def first_frame(shape: Shape, rng: np.random.Generator) -> Mask:
  """Image-to-video."""
  mask = np.zeros(shape, bool)
  mask[0] = True
  return mask


def first_and_last_frame(shape: Shape, rng: np.random.Generator) -> Mask:
  """Interpolation."""
  mask = first_frame(shape, rng)
  mask[-1] = True
  return mask


def box(shape: Shape, rng: np.random.Generator) -> Mask:
  """Inpainting: all but a box, which stays where it is."""
  return ~_boxes(shape, *[_corners(rng, *_sides(rng))] * 2)


def tube(shape: Shape, rng: np.random.Generator) -> Mask:
  """Inpainting: all but a box, which moves at a constant speed."""
  sides = _sides(rng)
  return ~_boxes(shape, _corners(rng, *sides), _corners(rng, *sides))


def border(shape: Shape, rng: np.random.Generator) -> Mask:
  """Outpainting: what is inside a border, of another width along every edge, at least one of which
  has one."""
  left, top, right, bottom = rng.uniform(0, BORDER, 4) * _some(rng, 4)
  inside = np.array([left, top, 1 - right, 1 - bottom])
  return _boxes(shape, inside, inside)


def region(shape: Shape, rng: np.random.Generator) -> Mask:
  """Cinemagraphs: the whole first frame, and all but an ellipse of the others."""
  x, y, right, bottom = _corners(rng, *_sides(rng))
  across, down = _centres(shape[2]), _centres(shape[1])[:, None]
  inside = ((across - (x + right) / 2) / (right - x)) ** 2 + (
    (down - (y + bottom) / 2) / (bottom - y)
  ) ** 2 <= 0.25
  mask = np.broadcast_to(~inside, shape).copy()
  mask[0] = True
  return mask


def nothing(shape: Shape, rng: np.random.Generator) -> Mask:
  """Text-to-video."""
  return np.zeros(shape, bool)


KINDS: dict[str, Callable[[Shape, np.random.Generator], Mask]] = {
  of.__name__: of for of in (first_frame, first_and_last_frame, box, tube, border, region, nothing)
}


class Masked:
  """A source whose examples also have a `mask`, of one of `KINDS`: true where the clip is given.

  mix: how often each kind is drawn, relative to the others.  ValueError for other kinds, for a
    share below zero, and where all are zero.
  """

  def __init__(self, source, mix: Mapping[str, float]):
    if unknown := sorted(mix.keys() - KINDS.keys()):
      raise UserError(f'Unknown masks: {", ".join(unknown)}.  Allowed: {", ".join(sorted(KINDS))}.')
    shares = np.array([mix[name] for name in sorted(mix)], float)
    if (shares < 0).any() or not shares.sum() > 0:
      raise UserError(f'Got shares of masks {dict(mix)}; allowed are 0 or more, and not all 0.')
    self._source, self._names, self._shares = source, sorted(mix), shares / shares.sum()

  def __len__(self) -> int:
    return len(self._source)

  def draw(self, index, rng: np.random.Generator) -> dict:
    """The example, its window in time or space and its mask drawn with `rng`."""
    draw = getattr(self._source, 'draw', lambda i, rng: self._source[i])
    example = draw(index, rng)
    kind = self._names[rng.choice(len(self._names), p=self._shares)]
    return example | {'mask': KINDS[kind](example['video'].shape[:3], rng)}


def _some(rng, n):
  """Which of n: any, but not none."""
  chosen = rng.random(n) < 0.5
  chosen[rng.integers(n)] = True
  return chosen


def _sides(rng):
  return rng.uniform(FEWEST, MOST, 2)


def _corners(rng, width, height):
  """Left, top, right and bottom of a box of this size inside the frame."""
  x, y = rng.uniform(0, (1 - width, 1 - height))
  return np.array([x, y, x + width, y + height])


def _boxes(shape, first, last):
  """Where a box is, from its corners in the first frame and in the last."""
  t, h, w = shape
  u = np.linspace(0, 1, t)[:, None] if t > 1 else np.zeros((1, 1))
  left, top, right, bottom = (first + (last - first) * u).T[:, :, None, None]
  across, down = _centres(w), _centres(h)[:, None]
  return (left <= across) & (across < right) & (top <= down) & (down < bottom)


def _centres(n):
  return (np.arange(n) + 0.5) / n
