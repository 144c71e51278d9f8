"""The moving shapes: a synthetic dataset of clips and captions, generated from an index.

Lengths and positions are fractions of the frame's shorter side, with x to the right and y down.  So
shapes keep their proportions in frames of any aspect ratio, in which they move over all of the
longer side: in a frame that is twice as wide as high, x goes from 0 to 2.  Times are in seconds.
"""

import dataclasses
import functools
import itertools
import types
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, UInt8

from core.errors import UserError
from core.frame_size import Size, height_width
from data import transforms

DURATION = 5.0  # seconds of a clip; a shorter clip is a window of it

COLOURS = {
  'red': (255, 0, 0),
  'green': (0, 224, 0),
  'blue': (32, 64, 255),
  'yellow': (255, 255, 0),
  'magenta': (255, 0, 255),
  'cyan': (0, 255, 255),
  'orange': (255, 128, 0),
  'white': (255, 255, 255),
}
BACKGROUNDS = {
  'black': (0, 0, 0),
  'gray': (128, 128, 128),
  'navy': (0, 0, 96),
  'white': (255, 255, 255),
}
SHAPES = ('circle', 'square', 'triangle', 'ring', 'cross')
MOTIONS = (
  *('moving left', 'moving right', 'moving up', 'moving down', 'growing', 'shrinking'),
  *('spinning', 'bouncing', 'standing still'),
)

REACH = 1.2  # the largest distance of a point of a shape of radius 1 from its centre
MARGIN = 0.03  # between a shape and the frame's edge
ARM = 0.5  # radii from a spinning shape's centre to its axis, so that even a circle visibly turns

# How often a motion is drawn for training, relative to the others.  Shapes at any angle and paths
# that turn around take more clips to learn: with even shares, the error of an image model on
# spinning shapes was twice that on others.
TRAINING_WEIGHTS = types.MappingProxyType({'spinning': 3, 'bouncing': 2})
EVEN = types.MappingProxyType({})

_FACTS, _WINDOW, _PROMPT, _CROP = range(4)  # independent streams of random numbers


@dataclasses.dataclass(frozen=True)
class Scene:
  """The facts that a caption states."""

  colour: str
  shape: str
  motion: str
  background: str

  @property
  def caption(self) -> str:
    """The caption, such as 'a red circle moving left on a black background'."""
    return f'a {self.colour} {self.shape} {self.motion} on a {self.background} background'


SCENES = tuple(
  Scene(*names)
  for names in itertools.product(COLOURS, SHAPES, MOTIONS, BACKGROUNDS)
  if names[0] != names[3]  # a white shape on white is invisible
)


@dataclasses.dataclass(frozen=True)
class Facts(Scene):
  """A scene and its geometry: all random choices of one clip."""

  start: tuple[float, float]  # the centre (x, y) at 0 seconds
  end: tuple[float, float]  # the centre at `DURATION`; the speed is constant
  radii: tuple[float, float]  # at 0 seconds and at `DURATION`; growth is exponential
  angle: float = 0.0  # radians at 0 seconds, clockwise
  turns: float = 0.0  # clockwise turns in `DURATION`, about a point off the centre
  leap: float = 0.0  # the height of a bounce
  bounces: float = 0.0  # in `DURATION`; the first begins at 0 seconds


@functools.cache
def _scenes(weights: tuple[tuple[str, int], ...]) -> tuple[Scene, ...]:
  """All scenes, each as often as the weight of its motion says, or once."""
  times = dict(weights)
  return tuple(scene for scene in SCENES for _ in range(times.get(scene.motion, 1)))


def facts(index: int, seed: int = 0, weights: Mapping[str, int] = EVEN, size: Size = 1) -> Facts:
  """The scene and the geometry of a clip, the same for the same arguments.

  weights: how often motions are drawn, relative to those that are not in it.
  size: of the frames, whose aspect ratio alone matters, and for the geometry alone.
  """
  rng = _rng(_FACTS, seed, index)
  scenes = _scenes(tuple(weights.items()))
  scene = scenes[rng.integers(len(scenes))]
  return Facts(**dataclasses.asdict(scene), **_geometry(scene.motion, _extent(size), rng))


def prompt(seed: int) -> Scene:
  """A random scene for evaluation, independent of the clips; its `caption` is the prompt."""
  return SCENES[_rng(_PROMPT, seed).integers(len(SCENES))]


def clip(
  index: int,
  *,
  size: Size,
  frames: int,
  fps: float | int,
  seed: int = 0,
  weights: Mapping[str, int] = EVEN,
) -> dict:
  """One clip: `video` (uint8 `t h w 3`), `mask` of the shape (bool `t h w`), `caption` and `facts`.

  Frames are 1 / `fps` seconds apart.  If they are shorter than `DURATION`, the time of the first is
  drawn at random; if they are longer, that is a ValueError.
  """
  spare = _spare(frames, fps)
  drawn = facts(index, seed, weights, size)
  first = spare * _rng(_WINDOW, seed, index).random()
  video, mask = render(drawn, first + np.arange(frames) / fps, size)
  return {'video': video, 'mask': mask, 'caption': drawn.caption, 'facts': drawn}


class MovingShapes:
  """A data source, as `data.pipeline` defines it, of moving shapes.

  Frames are rendered in the size `transforms.uncropped`, and cropped to `size`: see
  `transforms.CROPS`.
  """

  def __init__(
    self,
    size: Size,
    frames: int,
    fps: float | int,
    length: int = 1_000_000,
    seed: int = 0,
    shorter_side: int = 0,
    crop: str = 'center',
    weights: Mapping[str, int] = EVEN,
  ):
    _spare(frames, fps)
    self._length, self._seed = length, seed
    self._crop = transforms.crop(crop, size, shorter_side)
    uncropped = transforms.uncropped(size, shorter_side)
    self._format = dict(size=uncropped, frames=frames, fps=fps, weights=weights)

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index) -> dict:
    """The example `index`, with the same crop each time."""
    return self.draw(index, _rng(_CROP, self._seed, int(index)))

  def draw(self, index, rng: np.random.Generator) -> dict:
    """`{'video': uint8 't h w 3', 'caption': str}`, with a crop drawn with `rng`."""
    index = int(index)
    if not 0 <= index < self._length:
      raise IndexError(f'Got index {index} of a source of {self._length} clips.')
    drawn = clip(index, seed=self._seed, **self._format)
    video = self._crop(drawn['video'], rng)
    return {'video': np.ascontiguousarray(video), 'caption': drawn['caption']}


def render(
  facts: Facts, times: Float[np.ndarray, ' t'], size: Size
) -> tuple[UInt8[np.ndarray, 't h w 3'], Bool[np.ndarray, 't h w']]:
  """The frames at `times` (seconds in [0, `DURATION`]), and the mask of the shape in them."""
  u = (times / DURATION).astype(np.float32)[:, None, None]
  angle = facts.angle + 2 * np.pi * facts.turns * u
  radius = facts.radii[0] * (facts.radii[1] / facts.radii[0]) ** u
  arm = ARM * radius if facts.turns else 0.0
  hop = facts.bounces * u % 1
  x = facts.start[0] + (facts.end[0] - facts.start[0]) * u + arm * np.cos(angle)
  y = facts.start[1] + (facts.end[1] - facts.start[1]) * u + arm * np.sin(angle)
  y = y - facts.leap * 4 * hop * (1 - hop)

  height, width = height_width(size)
  side = min(height, width)
  across, down = ((np.arange(n, dtype=np.float32) + 0.5) / side for n in (width, height))
  x, y = (across - x) / radius, (down[:, None] - y) / radius
  if facts.angle or facts.turns:
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
  # The coverage of a pixel falls from 1 to 0 across an edge one pixel wide.
  cover = np.clip(0.5 - DISTANCES[facts.shape](x, y) * (radius * side), 0, 1)

  back = np.array(BACKGROUNDS[facts.background], np.float32)
  fore = np.array(COLOURS[facts.colour], np.float32)
  video = back + cover[..., None] * (fore - back) + 0.5
  return video.astype(np.uint8), cover > 0.5


def _circle(x, y):
  return np.sqrt(x * x + y * y) - 1


def _ring(x, y):
  return np.abs(np.sqrt(x * x + y * y) - 0.8) - 0.25


def _square(x, y):
  return np.maximum(np.abs(x), np.abs(y)) - 0.84


def _triangle(x, y):
  """An equilateral triangle that points up."""
  return np.maximum(y, np.sqrt(np.float32(0.75)) * np.abs(x) - 0.5 * y) - 0.6


def _cross(x, y):
  x, y = np.abs(x), np.abs(y)
  return np.maximum(np.minimum(x, y) - 0.38, np.maximum(x, y) - 1.1)


# Signed distance to the edge of a shape of radius 1 about the origin, negative inside.
DISTANCES = dict(zip(SHAPES, (_circle, _square, _triangle, _ring, _cross)))


def _extent(size: Size) -> tuple[float, float]:
  """The width and the height of frames, of which the smaller is 1."""
  height, width = height_width(size)
  side = min(height, width)
  return width / side, height / side


def _geometry(motion: str, extent: tuple[float, float], rng: np.random.Generator) -> dict:
  """A random geometry for this motion, which keeps the whole shape in the frame at all times.

  extent: the width and the height of the frame.
  """
  radius = rng.uniform(0.22, 0.27)
  position = _random_position(rng, extent, REACH * radius)
  match motion.split():
    case 'moving', direction:
      axis = direction in ('up', 'down')
      near, far = (MARGIN + REACH * radius + rng.uniform(0, 0.04, 2)).tolist()
      far = extent[axis] - far
      ends = (near, far) if direction in ('right', 'down') else (far, near)
      start, end = (tuple(v if i == axis else position[i] for i in (0, 1)) for v in ends)
      return dict(start=start, end=end, radii=(radius, radius))
    case ['growing' | 'shrinking']:
      small = rng.uniform(0.12, 0.14)
      large = small * rng.uniform(2.2, 2.6)
      radii = (small, large) if motion == 'growing' else (large, small)
      place = _random_position(rng, extent, REACH * large)
      return dict(start=place, end=place, radii=radii)
    case ['spinning']:
      place = _random_position(rng, extent, (REACH + ARM) * radius)
      angle = rng.uniform(0, 2 * np.pi)
      turns = rng.uniform(1, 1.5) * (1, -1)[rng.integers(2)]
      return dict(start=place, end=place, radii=(radius, radius), angle=angle, turns=turns)
    case ['bouncing']:
      floor = (position[0], extent[1] - MARGIN - REACH * radius - rng.uniform(0, 0.05))
      leap, bounces = rng.uniform(0.25, 0.32), rng.uniform(2, 3)
      leap = min(leap, floor[1] - MARGIN - REACH * radius)
      return dict(start=floor, end=floor, radii=(radius, radius), leap=leap, bounces=bounces)
    case _:
      return dict(start=position, end=position, radii=(radius, radius))


def _random_position(
  rng: np.random.Generator, extent: tuple[float, float], reach: float
) -> tuple[float, float]:
  return tuple(rng.uniform(MARGIN + reach, np.array(extent) - MARGIN - reach).tolist())


def _spare(frames: int, fps: float | int) -> float:
  spare = DURATION - frames / fps
  if frames < 1 or spare < -1e-9:
    raise UserError(
      f'Got {frames} frames at {fps} a second; moving shapes last {DURATION:g} seconds, so '
      f'1..{int(DURATION * fps)} frames are allowed.'
    )
  return max(spare, 0.0)


def _rng(*stream: int) -> np.random.Generator:
  return np.random.default_rng(stream)
