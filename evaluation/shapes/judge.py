"""A judge of clips of moving shapes, which recognises colour, shape and motion from pixels."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, UInt8

from data import synthetic

NONE = 'none'  # the verdict where no word of the captions fits

_CONTRAST = 50  # levels of 255: with less contrast to the background, there is no shape
_CORE = 0.02  # the share of pixels with most contrast, which lie inside even the smallest shape
_PATCH = 24  # the side of the patches in which shapes are compared, in pixels


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What a clip shows, in the words of captions, or `NONE`."""

  colour: str
  shape: str
  motion: str
  background: str


def judge(video: UInt8[np.ndarray, 't h w 3']) -> Verdict:
  """What the clip shows, assuming that its frames span the five seconds of a clip.

  The motion is `NONE` for fewer than 8 frames, which are too few to recognise it.
  """
  background, ground, core = _colours(video)
  if core is None:
    return Verdict(NONE, NONE, NONE, background)
  cover = _cover(video, ground, core)
  return Verdict(_colour(core, ground), _shape(cover), _motion(cover), background)


def centres(video: UInt8[np.ndarray, 't h w 3']) -> Float[np.ndarray, 't 2']:
  """The centre (x, y) of the shape in fractions of the frame's shorter side; NaN where there is no
  shape."""
  if (cover := coverage(video)) is None:
    return np.full((len(video), 2), np.nan)
  _, x, y = _path(cover)
  return np.stack([x, y], -1)


def coverage(video: UInt8[np.ndarray, 't h w 3']) -> Float[np.ndarray, 't h w'] | None:
  """The part of each pixel that the shape covers, from 0 to 1; None without a shape."""
  _, ground, core = _colours(video)
  return None if core is None else _cover(video, ground, core)


def _colours(video):
  """The name and the colour of the background, and the colour of the shape or None."""
  video = video.astype(np.float32)
  border = _border(video)
  ground = np.median(border, axis=0)
  contrast = np.linalg.norm(video - ground, axis=-1)
  core = np.median(video[contrast >= np.quantile(contrast, 1 - _CORE)], axis=0)
  noise = np.median(np.linalg.norm(border - ground, axis=-1))
  visible = np.linalg.norm(core - ground) >= max(_CONTRAST, 2 * noise)
  return _nearest(ground, synthetic.BACKGROUNDS), ground, core if visible else None


def _border(video):
  _, h, w, _ = video.shape
  inside = np.zeros((h, w), bool)
  inside[1:-1, 1:-1] = True
  return video[:, ~inside].reshape(-1, 3)


def _nearest(colour, named: dict) -> str:
  return min(named, key=lambda name: np.linalg.norm(colour - np.array(named[name])))


def _colour(core, ground) -> str:
  """The named colour that is nearest to `core` when mixed with at most one half of `ground`."""

  def distance(name):
    line = np.array(synthetic.COLOURS[name]) - ground
    # The maximum avoids a division by zero where the colour is that of the background.
    part = np.clip((core - ground) @ line / max(line @ line, 1.0), 0.5, 1.0)
    return np.linalg.norm(core - ground - part * line)

  return min(synthetic.COLOURS, key=distance)


def _cover(video, ground, core) -> Float[np.ndarray, 't h w']:
  """The coverage of each pixel by the shape, from 0 to 1; noise of the background becomes 0."""
  line = core - ground
  cover = np.clip((video - ground) @ line / (line @ line), 0, 1)
  return np.where(cover < 0.3, 0, cover)


def _motion(cover) -> str:
  """The motion, by the path of the centre of the shape and its area over time."""
  if len(cover) < 8:
    return NONE
  area, x, y = _path(cover)
  if np.isnan(x).any():
    return NONE
  growth, steady = _trend(np.log(area))
  if abs(growth) > np.log(2) and steady > 0.7:
    return 'growing' if growth > 0 else 'shrinking'
  (dx, straight_x), (dy, straight_y) = _trend(x), _trend(y)
  if abs(dx) > max(0.15, 2 * abs(dy)) and straight_x > 0.8:
    return 'moving right' if dx > 0 else 'moving left'
  if abs(dy) > max(0.15, 2 * abs(dx)) and straight_y > 0.8:
    return 'moving down' if dy > 0 else 'moving up'
  wide, high = np.std(x), np.std(y)
  if high > max(0.05, 2 * wide) and _reversals(y) >= 2:
    return 'bouncing'
  if _orbits(x, y) > 0.6 or (max(wide, high) < 0.03 and _own_turns(cover, x, y) > 0.6):
    return 'spinning'
  if max(wide, high) < 0.02 and np.std(np.log(area)) < 0.2:
    return 'standing still'
  return NONE


def _path(cover):
  """The area and the centre (x, y) of the shape, smoothed over time; the frame's shorter side is 1.

  They are NaN near frames without the shape.
  """
  t, h, w = cover.shape
  side = min(h, w)
  area = cover.sum((1, 2)) / (side * side)
  area = np.where(area <= 0.05 * np.median(area), np.nan, area)
  x = cover.sum(1) @ (np.arange(w) + 0.5) / side / (area * side * side)
  y = cover.sum(2) @ (np.arange(h) + 0.5) / side / (area * side * side)
  return tuple(_smooth(v, 1 + 2 * (t // 32)) for v in (area, x, y))


def _smooth(v, width: int):
  padded = np.pad(v, width // 2, mode='edge')
  return np.lib.stride_tricks.sliding_window_view(padded, width).mean(-1)


def _trend(v) -> tuple[float, float]:
  """The change of the fitted line from first to last, and the share of variance it explains."""
  u = np.linspace(-0.5, 0.5, len(v))
  slope = (u @ v) / (u @ u)
  return slope, slope**2 * np.var(u) / max(np.var(v), 1e-12)


def _reversals(v) -> int:
  """How often `v` reverses its direction, by at least a third of its range."""
  threshold, extreme = np.ptp(v) / 3, v[0]
  heading = count = 0
  for value in v:
    if heading * (value - extreme) > 0:
      extreme = value
    elif abs(value - extreme) > threshold:
      count += heading != 0
      heading, extreme = 1 if value > extreme else -1, value
  return count


def _orbits(x, y) -> float:
  """The number of turns of (x, y) around the centre of the fitted circle; 0 without a circle."""
  # Kasa's fit: x^2 + y^2 = 2 a x + 2 b y + c is linear in a, b and c.
  system = np.stack([2 * x, 2 * y, np.ones_like(x)], -1)
  (a, b, _), *_ = np.linalg.lstsq(system, x**2 + y**2, rcond=None)
  arm = (x - a) + 1j * (y - b)
  radius = np.abs(arm)
  if radius.mean() < 0.03 or np.std(radius) > 0.4 * radius.mean():
    return 0.0
  return _turns(arm)


def _own_turns(cover, x, y) -> float:
  """The number of turns of the shape around its centre, by moments of 3- and 4-fold symmetry."""
  _, h, w = cover.shape
  side = min(h, w)
  dx = (np.arange(w) + 0.5) / side - x[:, None, None]
  dy = ((np.arange(h) + 0.5) / side)[:, None] - y[:, None, None]
  z = dx + 1j * dy
  most = 0.0
  for fold in (3, 4):
    moment = (cover * z**fold).sum((1, 2)) / (cover * np.abs(z) ** fold).sum((1, 2))
    if np.abs(moment).mean() > 0.1:
      most = max(most, _turns(moment) / fold)
  return most


def _turns(z) -> float:
  """The number of turns of `z` around 0; 0 where its phase is not steady, as for noise."""
  change, steady = _trend(np.unwrap(np.angle(z)))
  return abs(change) / (2 * np.pi) if steady > 0.8 else 0.0


def _shape(cover) -> str:
  """The shape whose templates overlap most, at the best angle, with the frames of largest area.

  `NONE` if no frame has a shape.
  """
  areas = cover.sum((1, 2))
  largest = np.argsort(areas)[-max(1, len(cover) // 4) :][::-3]
  largest = largest[areas[largest] > 0]  # a shape may be seen in few frames
  if not len(largest):
    return NONE
  patches = np.stack([_patch(cover[i]) for i in largest])
  scores = {name: _overlap(patches, _templates(name)).max(-1).mean() for name in synthetic.SHAPES}
  return max(scores, key=scores.get)


def _overlap(a, b):
  """The intersection over union of every patch in `a` with every patch in `b`."""
  a, b = a[:, None], b[None]
  return np.minimum(a, b).sum((2, 3)) / np.maximum(a, b).sum((2, 3))


@functools.cache
def _templates(shape: str):
  """Patches of the shape at angles 10 degrees apart, drawn at 32 pixels as clips are."""
  middle = (0.5, 0.5)
  drawn = [
    synthetic.Facts('white', shape, '', 'black', middle, middle, (0.2, 0.2), angle=angle)
    for angle in np.deg2rad(np.arange(0, 120, 10))
  ]
  frames = [synthetic.render(facts, np.zeros(1), 32)[0][0, :, :, 0] / 255 for facts in drawn]
  return np.stack([_patch(frame) for frame in frames])


def _patch(cover):
  """The shape in a patch, centred, and scaled so that its standard deviation is a sixth of it."""
  ys, xs = np.mgrid[: cover.shape[0], : cover.shape[1]]
  weight = cover / cover.sum()
  x, y = (weight * xs).sum(), (weight * ys).sum()
  deviation = np.sqrt((weight * ((xs - x) ** 2 + (ys - y) ** 2)).sum())
  grid = 6 * deviation * ((np.arange(_PATCH) + 0.5) / _PATCH - 0.5)
  return _sample(cover, y + grid[:, None], x + grid)


def _sample(image, y, x):
  """The image at the points (y, x), by bilinear interpolation; 0 outside."""
  image = np.pad(image, 1)
  y = np.clip(y + 1, 0, image.shape[0] - 1.001)
  x = np.clip(x + 1, 0, image.shape[1] - 1.001)
  i, j = y.astype(int), x.astype(int)
  v, u = y - i, x - j
  top = (1 - u) * image[i, j] + u * image[i, j + 1]
  bottom = (1 - u) * image[i + 1, j] + u * image[i + 1, j + 1]
  return (1 - v) * top + v * bottom
