"""Charts and strips of frames, drawn with Pillow alone."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from core.video import Pixels
from evaluation.curves import ticks

COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115))  # told apart by every eye (Okabe & Ito)
WIDTH = 960  # of everything here, in pixels

_INK, _GRID, _PAPER = (50, 50, 50), (226, 226, 226), (255, 255, 255)
_FINE = 4  # Pillow's lines have no soft edges: they are drawn so many times larger, and reduced

Curve = Sequence[tuple[float, float]]


def line_chart(
  curves: Mapping[str, Curve], *, x_label: str, y_label: str, height: int = 420
) -> Image.Image:
  """A chart of up to three curves, each a sequence of finite (x, y), with their names."""
  left, right, top, bottom = (_FINE * side for side in (64, WIDTH - 24, 48, height - 56))
  points = [point for curve in curves.values() for point in curve]
  (x0, *x_ticks), (y0, *y_ticks) = (ticks(min(v), max(v)) for v in zip(*points))
  px = lambda x: left + (x - x0) / (x_ticks[-1] - x0) * (right - left)
  py = lambda y: bottom - (y - y0) / (y_ticks[-1] - y0) * (bottom - top)

  image = Image.new('RGB', (_FINE * WIDTH, _FINE * height), _PAPER)
  draw = ImageDraw.Draw(image)
  write = lambda at, text, anchor: draw.text(at, text, _INK, _font(14 * _FINE), anchor)
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
    at = right - 250 * _FINE, top + (16 + 22 * i) * _FINE
    draw.line([at, (at[0] + 24 * _FINE, at[1])], colour, 2 * _FINE)
    write((at[0] + 32 * _FINE, at[1]), name, 'lm')
  return image.reduce(_FINE)


def filmstrip(name: str, video: Pixels, *, frames: int = 8) -> Image.Image:
  """So many frames of a video side by side, from its first to its last, below its name."""
  chosen = np.linspace(0, len(video) - 1, min(frames, len(video))).round().astype(int)
  pitch = (WIDTH - 48) // frames
  line = Image.new('RGB', (_FINE * WIDTH, _FINE * 26), _PAPER)
  ImageDraw.Draw(line).text((24 * _FINE, 21 * _FINE), name, _INK, _font(14 * _FINE), 'lb')
  image = Image.new('RGB', (WIDTH, pitch + 30), _PAPER)
  image.paste(line.reduce(_FINE))
  for i, frame in enumerate(video[chosen]):
    shown = Image.fromarray(frame).resize((pitch - 4, pitch - 4), Image.Resampling.NEAREST)
    image.paste(shown, (24 + i * pitch, 26))
  return image


def stacked(images: Sequence[Image.Image]) -> Image.Image:
  """The images one below another."""
  whole = Image.new('RGB', (WIDTH, sum(image.height for image in images)), _PAPER)
  y = 0
  for image in images:
    whole.paste(image, (0, y))
    y += image.height
  return whole


def _font(size: int) -> ImageFont.FreeTypeFont:
  return ImageFont.load_default(size)
