"""Line charts and strips of frames, drawn with Pillow, and their files."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from core.errors import UserError
from core.folder import new_file
from core.video import Pixels, check_writable
from evaluation.curves import ticks

COLOURS = (
  (0, 114, 178),
  (213, 94, 0),
  (0, 158, 115),
)  # distinct for colour-blind people too (Okabe & Ito)
WIDTH = 960  # of every image here, in pixels

_INK, _GRID, _PAPER = (50, 50, 50), (226, 226, 226), (255, 255, 255)
_FINE = 4  # charts are drawn this many times larger and reduced, as Pillow's lines have hard edges

Curve = Sequence[tuple[float, float]]


def require_png(output: str | pathlib.Path) -> pathlib.Path:
  """The path of an image that is to be saved.  UserError unless it ends in .png, and OSError if it
  cannot be written."""
  path = pathlib.Path(output)
  if path.suffix != '.png':
    raise UserError(f'Got --output={path}; allowed is a name that ends in .png.')
  check_writable(path)
  return path


def save(image: Image.Image, path: pathlib.Path) -> None:
  """Writes the image as a whole or not at all."""
  with new_file(path) as file:
    image.save(file, 'PNG')


def line_chart(
  curves: Mapping[str, Curve], *, x_label: str, y_label: str, height: int = 420
) -> Image.Image:
  """A chart of up to three named curves, each a sequence of finite points (x, y)."""
  left, right, top, bottom = (_FINE * side for side in (64, WIDTH - 24, 48, height - 56))
  points = [point for curve in curves.values() for point in curve]
  (x0, *x_ticks), (y0, *y_ticks) = (ticks(min(v), max(v)) for v in zip(*points))
  px = lambda x: left + (x - x0) / (x_ticks[-1] - x0) * (right - left)
  py = lambda y: bottom - (y - y0) / (y_ticks[-1] - y0) * (bottom - top)

  image = Image.new('RGB', (_FINE * WIDTH, _FINE * height), _PAPER)
  draw = ImageDraw.Draw(image)
  write = lambda point, text, anchor: draw.text(point, text, _INK, _font(14 * _FINE), anchor)
  for y in (y0, *y_ticks):
    draw.line([(left, py(y)), (right, py(y))], _GRID, _FINE)
    write((left - 8 * _FINE, py(y)), f'{y:g}', 'rm')
  for x in (x0, *x_ticks):
    draw.line([(px(x), bottom), (px(x), bottom + 5 * _FINE)], _INK, _FINE)
    write((px(x), bottom + 8 * _FINE), f'{x:g}', 'mt')
  draw.line([(left, top), (left, bottom), (right, bottom)], _INK, _FINE)
  write(((left + right) / 2, _FINE * (height - 8)), x_label, 'mb')
  write((8 * _FINE, 12 * _FINE), y_label, 'lt')

  for i, ((name, curve), colour) in enumerate(zip(curves.items(), COLOURS)):
    draw.line([(px(x), py(y)) for x, y in curve], colour, 2 * _FINE, joint='curve')
    x, y = right - 250 * _FINE, top + (16 + 22 * i) * _FINE
    draw.line([(x, y), (x + 24 * _FINE, y)], colour, 2 * _FINE)
    write((x + 32 * _FINE, y), name, 'lm')
  return image.reduce(_FINE)


def filmstrip(name: str, video: Pixels, *, frames: int = 8) -> Image.Image:
  """`frames` evenly spaced frames of a video side by side, below its name."""
  chosen = np.linspace(0, len(video) - 1, min(frames, len(video))).round().astype(int)
  pitch = (WIDTH - 48) // frames
  line = Image.new('RGB', (_FINE * WIDTH, _FINE * 26), _PAPER)
  ImageDraw.Draw(line).text((24 * _FINE, 21 * _FINE), name, _INK, _font(14 * _FINE), 'lb')
  image = Image.new('RGB', (WIDTH, pitch + 30), _PAPER)
  image.paste(line.reduce(_FINE))
  for i, frame in enumerate(video[chosen]):
    thumbnail = Image.fromarray(frame).resize((pitch - 4, pitch - 4), Image.Resampling.NEAREST)
    image.paste(thumbnail, (24 + i * pitch, 26))
  return image


def stacked(images: Sequence[Image.Image]) -> Image.Image:
  """The images below each other."""
  result = Image.new('RGB', (WIDTH, sum(image.height for image in images)), _PAPER)
  y = 0
  for image in images:
    result.paste(image, (0, y))
    y += image.height
  return result


def _font(size: int) -> ImageFont.FreeTypeFont:
  return ImageFont.load_default(size)
