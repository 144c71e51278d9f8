"""Masks of the conditional models (Lumiere, Sec. 4.2): which pixels of a clip the model is given.

A mask is true where the clip is given, and false where it is hidden and generated, like
`Condition.mask`.  The mask that a user draws is the opposite: `pipelines.conditional` inverts it.
Lengths across and down are drawn as fractions of the frame's width and height.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool

from core.errors import UserError
from data.parts import draw

Mask = Bool[np.ndarray, 't h w']
Shape = tuple[int, int, int]  # t h w

MIN_SIDE, MAX_SIDE = 0.25, 0.75  # sides of a hidden region
KEYFRAME_STEP = 4  # frames
MAX_BORDER = 0.35  # width of a hidden border


def first_frame(shape: Shape, rng: np.random.Generator) -> Mask:
  """Image-to-video: the first frame is given."""
  mask = np.zeros(shape, bool)
  mask[0] = True
  return mask


def first_and_last_frame(shape: Shape, rng: np.random.Generator) -> Mask:
  """Interpolation: the first and the last frame are given."""
  mask = first_frame(shape, rng)
  mask[-1] = True
  return mask


def keyframes(shape: Shape, rng: np.random.Generator | None = None) -> Mask:
  """Temporal super-resolution: every `KEYFRAME_STEP`-th frame is given, from the first on."""
  mask = np.zeros(shape, bool)
  mask[::KEYFRAME_STEP] = True
  return mask


def box(shape: Shape, rng: np.random.Generator) -> Mask:
  """Inpainting: everything is given except a box, which does not move."""
  return ~_boxes(shape, *[_corners(rng, *_sides(rng))] * 2)


def tube(shape: Shape, rng: np.random.Generator) -> Mask:
  """Inpainting: everything is given except a box, which moves at a constant speed."""
  sides = _sides(rng)
  return ~_boxes(shape, _corners(rng, *sides), _corners(rng, *sides))


def border(shape: Shape, rng: np.random.Generator) -> Mask:
  """Outpainting: everything is given except a border along at least one edge.

  The border has a different width along each edge.
  """
  left, top, right, bottom = rng.uniform(0, MAX_BORDER, 4) * _nonempty_subset(rng, 4)
  inside = np.array([left, top, 1 - right, 1 - bottom])
  return _boxes(shape, inside, inside)


def region(shape: Shape, rng: np.random.Generator) -> Mask:
  """Cinemagraphs: the first frame is given, and everything except an ellipse in the others."""
  x, y, right, bottom = _corners(rng, *_sides(rng))
  across, down = _centres(shape[2]), _centres(shape[1])[:, None]
  inside = ((across - (x + right) / 2) / (right - x)) ** 2 + (
    (down - (y + bottom) / 2) / (bottom - y)
  ) ** 2 <= 0.25
  mask = np.broadcast_to(~inside, shape).copy()
  mask[0] = True
  return mask


def nothing(shape: Shape, rng: np.random.Generator) -> Mask:
  """Text-to-video: nothing is given."""
  return np.zeros(shape, bool)


KINDS: dict[str, Callable[[Shape, np.random.Generator], Mask]] = {
  kind.__name__: kind
  for kind in (first_frame, first_and_last_frame, keyframes, box, tube, border, region, nothing)
}


class Masked:
  """A source whose examples also have a `mask`, of one of `KINDS`: true where the clip is given.

  mix: the relative frequency of each kind.

  ValueError for an unknown kind, for a frequency below zero, and if all are zero.
  """

  def __init__(self, source, mix: Mapping[str, float]):
    if unknown := sorted(mix.keys() - KINDS.keys()):
      raise UserError(f'Unknown masks: {", ".join(unknown)}.  Allowed: {", ".join(sorted(KINDS))}.')
    frequencies = np.array([mix[name] for name in sorted(mix)], float)
    if (frequencies < 0).any() or not frequencies.sum() > 0:
      raise UserError(
        f'Got frequencies of masks {dict(mix)}; allowed are 0 or more, and not all 0.'
      )
    self._source, self._names = source, sorted(mix)
    self.left_out = getattr(source, 'left_out', '')
    self._probabilities = frequencies / frequencies.sum()

  def __len__(self) -> int:
    return len(self._source)

  def draw(self, index, rng: np.random.Generator) -> dict:
    """The example `index`, with its window in time and space and its mask drawn with `rng`."""
    example = draw(self._source, index, rng)
    kind = self._names[rng.choice(len(self._names), p=self._probabilities)]
    return example | {'mask': KINDS[kind](example['video'].shape[:3], rng)}


def _nonempty_subset(rng, n):
  """Which of n elements are in a random subset that is not empty."""
  chosen = rng.random(n) < 0.5
  chosen[rng.integers(n)] = True
  return chosen


def _sides(rng):
  return rng.uniform(MIN_SIDE, MAX_SIDE, 2)


def _corners(rng, width, height):
  """Left, top, right and bottom of a box of this size, at a random place inside the frame."""
  x, y = rng.uniform(0, (1 - width, 1 - height))
  return np.array([x, y, x + width, y + height])


def _boxes(shape, first, last):
  """Whether each pixel is in a box that moves from corners `first` to corners `last`."""
  t, h, w = shape
  u = np.linspace(0, 1, t)[:, None] if t > 1 else np.zeros((1, 1))
  left, top, right, bottom = (first + (last - first) * u).T[:, :, None, None]
  across, down = _centres(w), _centres(h)[:, None]
  return (left <= across) & (across < right) & (top <= down) & (down < bottom)


def _centres(n):
  return (np.arange(n) + 0.5) / n
