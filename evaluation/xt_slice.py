"""A picture of X-T slices of several videos, one below another (Lumiere, Fig. 2).

A slice is one row of pixels in every frame, the frames below one another: time runs down.  What
moves smoothly draws a smooth line, what stands still an upright one; what flickers draws stripes
across, frames in disorder tear lines to pieces, and a loop draws a pattern again.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from core.video import Pixels, xt_slice

WIDTH = 640  # of every slice, in pixels of the picture
THUMB = 160  # width and height in which a first frame finds room
MARGIN, TEXT = 16, 16  # pixels: between things, and the height of letters
TALL = 256  # the height of a slice at which its frames are not enlarged any more
MOST = 8  # pixels of the picture for a frame

_PAPER, _INK, _PALE, _MARK = (255, 255, 255), (30, 30, 30), (110, 110, 110), (255, 0, 200)
_LINE = TEXT + TEXT // 2

Place = float | int | None
Videos = Mapping[str, UInt8[np.ndarray, '_ _ _ 3']]  # by name, each of a shape of its own


def picture(
  videos: Videos, *, row: Place = None, column: Place = None
) -> UInt8[np.ndarray, 'h w 3']:
  """The slices of videos, each below its name and beside its first frame, where a line is marked.

  row: of pixels from the top, or, with a point as in 0.5, that share of each video's height; the
    middle one by default.
  column: the same from the left, instead of a row.  Then the frame's top is left in the slice.

  All slices are equally wide, by repeating or leaving out pixels, and a frame is equally high in
  all, so that videos of other lengths are of other heights.  ValueError where there is no video, a
  video has no such row or column, or both are given.
  """
  if not videos:
    raise ValueError('Got no videos; allowed is one or more.')
  if row is not None and column is not None:
    raise ValueError(f'Got row {row} and column {column}; allowed is one of the two.')
  of_row = column is None
  places = {name: _place(name, v, row, column) for name, v in videos.items()}
  frame_height = min(max(TALL // max(map(len, videos.values())), 1), MOST)
  panels = [_panel(name, v, of_row, places[name], frame_height) for name, v in videos.items()]
  axis = 'left to right in the frame' if of_row else 'top to bottom of the frame'
  many = 'row of pixels' if frame_height == 1 else 'rows of pixels'
  note = f'time: down, {frame_height} {many} a frame; across: {axis}'
  return np.concatenate([*panels, _text(note, _PALE)])


def labels(paths: Sequence[pathlib.Path]) -> list[str]:
  """A name for each file: its own without an ending, or as much of its path as tells it from the
  others."""
  whole = [path.with_suffix('').parts for path in paths]
  found = []
  for parts in whole:
    lengths = range(1, len(parts) + 1)
    alone = (n for n in lengths if sum(other[-n:] == parts[-n:] for other in whole) == 1)
    found.append('/'.join(parts[-next(alone, len(parts)) :]))
  return found


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
    raise ValueError(f'{name} has no {kind} {place}; allowed is {allowed}.')
  return int(place * size) if share else int(place)


def _panel(name: str, video: Pixels, of_row: bool, place: int, frame_height: int):
  """A label, and below it the first frame and the slice."""
  kind, size = ('row', video.shape[1]) if of_row else ('column', video.shape[2])
  slice_ = xt_slice(video, **{kind: place})
  slice_ = scaled(slice_, len(video) * frame_height, WIDTH)
  thumb = _thumb(video[0], of_row, place)
  panel = np.full((max(len(slice_), len(thumb)), 3 * MARGIN + THUMB + WIDTH, 3), _PAPER, np.uint8)
  panel[: len(thumb), MARGIN : MARGIN + thumb.shape[1]] = thumb
  panel[: len(slice_), -MARGIN - WIDTH : -MARGIN] = slice_
  s = '' if len(video) == 1 else 's'
  return np.concatenate(
    [_text(name, _INK, f'{len(video)} frame{s}, {kind} {place} of {size}'), panel]
  )


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
