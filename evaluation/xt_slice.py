"""A picture of the X-T slices of several videos, one below another (Lumiere, Fig. 2).

A slice is one row of pixels of every frame, stacked so that time runs down.  Smooth motion draws a
smooth line, and what stands still a vertical one; flicker draws horizontal stripes, disordered
frames break lines, and a loop repeats a pattern.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from core.errors import UserError
from core.video import Pixels, xt_slice

WIDTH = 640  # of a slice, in pixels of the picture
THUMBNAIL = 160  # the largest width and height of a first frame
MARGIN, TEXT = 16, 16  # pixels between elements, and the height of text
MAX_HEIGHT = 256  # up to this height of a slice, the rows of its frames are repeated
MAX_ROWS = 8  # rows of pixels for a frame, at most

_PAPER, _INK, _PALE, _LINE_COLOUR = (255, 255, 255), (30, 30, 30), (110, 110, 110), (255, 0, 200)
_LINE = TEXT + TEXT // 2

Place = float | int | None
Named = tuple[str, UInt8[np.ndarray, '_ _ _ 3']]  # a video with its name


@dataclasses.dataclass(frozen=True)
class _Part:
  """The parts of the picture that are made of one video."""

  name: str
  thumb: UInt8[np.ndarray, 'h w 3']
  slice_: UInt8[np.ndarray, 't s 3']
  place: str  # the row or the column, in words


def picture(
  videos: Iterable[Named], *, row: Place = None, column: Place = None
) -> UInt8[np.ndarray, 'h w 3']:
  """The slices of videos, each below its name and beside its first frame with the line marked.

  videos: names and videos, which may have different shapes; one video is in memory at a time.
  row: the index of a row of pixels from the top or, as a float, a share of the height of each
    video; the middle row by default.
  column: the same from the left, in place of a row.  The top of a frame is on the left of the
    slice.

  Pixels are repeated or left out so that all slices have the same width.  A frame has the same
  height in all slices, so that a longer video has a higher slice.  UserError where there is no
  video, a video does not have the row or column, or both are given.
  """
  if row is not None and column is not None:
    raise UserError(f'Got row {row} and column {column}; allowed is one of the two.')
  parts = [_part(name, video, row, column) for name, video in videos]
  if not parts:
    raise UserError('Got no videos; allowed is one or more.')
  frame_height = min(max(MAX_HEIGHT // max(len(part.slice_) for part in parts), 1), MAX_ROWS)
  panels = [_panel(part, frame_height) for part in parts]
  axis = 'left to right in the frame' if column is None else 'top to bottom of the frame'
  unit = 'row of pixels' if frame_height == 1 else 'rows of pixels'
  note = f'time: down, {frame_height} {unit} a frame; across: {axis}'
  return np.concatenate([*panels, _text(note, _PALE)])


def resize_nearest(
  image: UInt8[np.ndarray, 'h w 3'], height: int, width: int
) -> UInt8[np.ndarray, '... 3']:
  """The image in another size, by the nearest pixels."""
  rows, columns = (
    (2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip((height, width), image.shape)
  )
  return image[rows[:, None], columns]


def _place(name: str, video: Pixels, row: Place, column: Place) -> int:
  """The index of the row or column of a video."""
  kind, place, size = ('row', row, video.shape[1])
  if column is not None:
    kind, place, size = ('column', column, video.shape[2])
  if place is None:
    return size // 2
  share = isinstance(place, float)
  if not 0 <= place < (1 if share else size):
    allowed = 'a share from 0 to below 1' if share else f'0 to {size - 1}'
    raise UserError(f'{name} has no {kind} {place}; allowed is {allowed}.')
  return int(place * size) if share else int(place)


def _part(name: str, video: Pixels, row: Place, column: Place) -> _Part:
  """The parts of a video; copies, since a view would keep the whole video in memory."""
  place = _place(name, video, row, column)
  kind, size = ('row', video.shape[1]) if column is None else ('column', video.shape[2])
  thumb = _thumb(video[0], kind == 'row', place)
  return _Part(name, thumb, xt_slice(video, **{kind: place}).copy(), f'{kind} {place} of {size}')


def _panel(part: _Part, frame_height: int) -> UInt8[np.ndarray, 'h w 3']:
  """A label, with the first frame and the slice below it."""
  frames, thumb = len(part.slice_), part.thumb
  slice_ = resize_nearest(part.slice_, frames * frame_height, WIDTH)
  panel = np.full(
    (max(len(slice_), len(thumb)), 3 * MARGIN + THUMBNAIL + WIDTH, 3), _PAPER, np.uint8
  )
  panel[: len(thumb), MARGIN : MARGIN + thumb.shape[1]] = thumb
  panel[: len(slice_), -MARGIN - WIDTH : -MARGIN] = slice_
  s = '' if frames == 1 else 's'
  return np.concatenate([_text(part.name, _INK, f'{frames} frame{s}, {part.place}'), panel])


def _thumb(frame, is_row: bool, place: int) -> UInt8[np.ndarray, 'h w 3']:
  """The frame, small, with a line where the slice is."""
  h, w, _ = frame.shape
  factor = THUMBNAIL / max(h, w)
  thumb = resize_nearest(frame, max(round(h * factor), 1), max(round(w * factor), 1))
  axis = 0 if is_row else 1
  size = thumb.shape[axis]
  at = min(int((place + 0.5) / frame.shape[axis] * size), size - 1)
  across = np.moveaxis(thumb, axis, 0)
  across[max(at - 1, 0) : at + 2] = _LINE_COLOUR
  return thumb


def _text(left: str, colour: tuple, right: str = '') -> UInt8[np.ndarray, 'h w 3']:
  """A line of text; the left part is truncated where there is no room."""
  font = ImageFont.load_default(TEXT)
  width = 3 * MARGIN + THUMBNAIL + WIDTH
  image = Image.new('RGB', (width, _LINE + TEXT // 2), _PAPER)
  draw = ImageDraw.Draw(image)
  room = width - 3 * MARGIN - font.getlength(right)
  text = left = ' '.join(left.split())[:250]  # there is never room for more
  while font.getlength(text) > room:
    left = left[:-1]
    text = left + '...'
  draw.text((MARGIN, _LINE), text, colour, font, 'ls')
  draw.text((width - MARGIN, _LINE), right, _PALE, font, 'rs')
  return np.asarray(image)
