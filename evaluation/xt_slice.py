"""A picture of X-T slices of several videos, one below another (Lumiere, Fig. 2).

A slice is one row of pixels in every frame, the frames below one another: time runs down.  What
moves smoothly draws a smooth line, what stands still an upright one; what flickers draws stripes
across, frames in disorder tear lines to pieces, and a loop draws a pattern again.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from core.errors import UserError
from core.video import Pixels, xt_slice

WIDTH = 640  # of every slice, in pixels of the picture
THUMB = 160  # width and height in which a first frame finds room
MARGIN, TEXT = 16, 16  # pixels: between things, and the height of letters
TALL = 256  # the height of a slice at which its frames are not enlarged any more
MOST = 8  # pixels of the picture for a frame

_PAPER, _INK, _PALE, _MARK = (255, 255, 255), (30, 30, 30), (110, 110, 110), (255, 0, 200)
_LINE = TEXT + TEXT // 2

Place = float | int | None
Named = tuple[str, UInt8[np.ndarray, '_ _ _ 3']]  # a video, and what it is called


@dataclasses.dataclass(frozen=True)
class _Part:
  """What is drawn of a video."""

  name: str
  thumb: UInt8[np.ndarray, 'h w 3']
  slice_: UInt8[np.ndarray, 't s 3']
  where: str  # the row or column


def picture(
  videos: Iterable[Named], *, row: Place = None, column: Place = None
) -> UInt8[np.ndarray, 'h w 3']:
  """The slices of videos, each below its name and beside its first frame, where a line is marked.

  videos: with their names, each of a shape of its own.  No more than the one at hand is held.
  row: of pixels from the top, or, with a point as in 0.5, that share of each video's height; the
    middle one by default.
  column: the same from the left, instead of a row.  Then the frame's top is left in the slice.

  All slices are equally wide, by repeating or leaving out pixels, and a frame is equally high in
  all, so that videos of other lengths are of other heights.  ValueError where there is no video, a
  video has no such row or column, or both are given.
  """
  if row is not None and column is not None:
    raise UserError(f'Got row {row} and column {column}; allowed is one of the two.')
  parts = [_part(name, video, row, column) for name, video in videos]
  if not parts:
    raise UserError('Got no videos; allowed is one or more.')
  frame_height = min(max(TALL // max(len(part.slice_) for part in parts), 1), MOST)
  panels = [_panel(part, frame_height) for part in parts]
  axis = 'left to right in the frame' if column is None else 'top to bottom of the frame'
  many = 'row of pixels' if frame_height == 1 else 'rows of pixels'
  note = f'time: down, {frame_height} {many} a frame; across: {axis}'
  return np.concatenate([*panels, _text(note, _PALE)])


def scaled(
  image: UInt8[np.ndarray, 'h w 3'], height: int, width: int
) -> UInt8[np.ndarray, '... 3']:
  """The image in another size, of the nearest pixels."""
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
  """What is drawn of a video; nothing of it is a view, which would keep the whole of it."""
  place = _place(name, video, row, column)
  kind, size = ('row', video.shape[1]) if column is None else ('column', video.shape[2])
  thumb = _thumb(video[0], kind == 'row', place)
  return _Part(name, thumb, xt_slice(video, **{kind: place}).copy(), f'{kind} {place} of {size}')


def _panel(part: _Part, frame_height: int) -> UInt8[np.ndarray, 'h w 3']:
  """A label, and below it the first frame and the slice."""
  frames, thumb = len(part.slice_), part.thumb
  slice_ = scaled(part.slice_, frames * frame_height, WIDTH)
  panel = np.full((max(len(slice_), len(thumb)), 3 * MARGIN + THUMB + WIDTH, 3), _PAPER, np.uint8)
  panel[: len(thumb), MARGIN : MARGIN + thumb.shape[1]] = thumb
  panel[: len(slice_), -MARGIN - WIDTH : -MARGIN] = slice_
  s = '' if frames == 1 else 's'
  return np.concatenate([_text(part.name, _INK, f'{frames} frame{s}, {part.where}'), panel])


def _thumb(frame, of_row: bool, place: int) -> UInt8[np.ndarray, 'h w 3']:
  """The frame, with a line across where the slice is."""
  h, w, _ = frame.shape
  factor = THUMB / max(h, w)
  thumb = scaled(frame, max(round(h * factor), 1), max(round(w * factor), 1))
  axis = 0 if of_row else 1
  size = thumb.shape[axis]
  at = min(int((place + 0.5) / frame.shape[axis] * size), size - 1)
  across = np.moveaxis(thumb, axis, 0)
  across[max(at - 1, 0) : at + 2] = _MARK
  return thumb


def _text(left: str, colour: tuple, right: str = '') -> UInt8[np.ndarray, 'h w 3']:
  """A line of text; what is on the left is cut where it has no room."""
  font = ImageFont.load_default(TEXT)
  width = 3 * MARGIN + THUMB + WIDTH
  image = Image.new('RGB', (width, _LINE + TEXT // 2), _PAPER)
  draw = ImageDraw.Draw(image)
  room = width - 3 * MARGIN - font.getlength(right)
  text = left = ' '.join(left.split())[:250]  # more has no room in any case
  while font.getlength(text) > room:
    left = left[:-1]
    text = left + '...'
  draw.text((MARGIN, _LINE), text, colour, font, 'ls')
  draw.text((width - MARGIN, _LINE), right, _PALE, font, 'rs')
  return np.asarray(image)
