"""The size of frames in pixels: `(height, width)`, or one number, which is the side of a square."""

import itertools
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from core.errors import UserError

Size = int | Sequence[int]


def height_width(size: Any) -> tuple[int, int]:
  """The height and the width of frames of this size, a `Size`.

  UserError unless it is one whole number or two, each 1 or more.
  """
  pair = size if isinstance(size, tuple | list) else (size, size)
  if len(pair) != 2 or not all(isinstance(n, numbers.Integral) and n >= 1 for n in pair):
    raise UserError(
      f'Got frames of the size {size!r}; allowed is a whole number, the side of a square, or '
      '(height, width), each 1 or more.'
    )
  height, width = map(int, pair)
  return height, width


def with_shorter_side(size: Size, side: int) -> tuple[int, int]:
  """The height and the width of the same aspect ratio whose shorter side is `side`.

  The longer side is rounded up.
  """
  height, width = height_width(size)
  shorter = min(height, width)
  return -(-height * side // shorter), -(-width * side // shorter)


def largest_side(
  height: int | Int[np.ndarray, ' n'], width: int | Int[np.ndarray, ' n'], size: Size
) -> Any:
  """The shorter side of the largest rectangle in a frame that has the aspect ratio of `size`.

  It is rounded down.  For squares this is the shorter side of the frame.
  """
  h, w = height_width(size)
  shorter = min(h, w)
  return np.minimum(height * shorter // h, width * shorter // w)


def require_multiples(size: Size, factor: int) -> None:
  """UserError, with the nearest sizes that are allowed, unless both sides divide by `factor`."""
  height, width = height_width(size)
  if not height % factor and not width % factor:
    return
  rows, columns = (
    sorted({max(n // factor, 1) * factor, -(-n // factor) * factor}) for n in (height, width)
  )
  nearest = ', '.join(f'{h}x{w}' for h, w in itertools.product(rows, columns))
  raise UserError(
    f'Frames of {height}x{width} pixels do not divide by {factor}; allowed are heights and widths '
    f'that are multiples of {factor}, of which the nearest are {nearest}.'
  )
