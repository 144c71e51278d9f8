r"""Judges clips of moving shapes by drawing them again: what they show is what draws them best.

  python evaluate.py shapes --workdir=checkpoints/demo/t2v --samples=runs/shapes
  python -m benchmarks.second_judge --videos=runs/shapes

The folder has videos of five seconds and an index of their prompts.  The command prints the shares
of videos that show what their prompts say, and lists the others.

This judge checks `evaluation.shapes`.  Both use the renderer of the dataset, `data.synthetic`, and
share no other code.  Every frame becomes an
image of coverage: how far each pixel is from the background's colour to the shape's.  Every shape
of `data.synthetic` is then drawn over some frames, with the place, radius, angle and blur of least
squares, and the one with the least error is the shape.  It is fitted to all frames, and the motion
is the one whose path runs closest to these places, radii and angles.

A word is 'none' where the best choice is not good enough, by the constants below.
"""

import dataclasses
import re

import numpy as np
from absl import flags
from jaxtyping import Float, Num, UInt8

from benchmarks import shape_fit
from core import command
from core.errors import UserError
from data import synthetic
from evaluation.clips import Reading, clips
from evaluation.folder import open_folder

WORDS = ('colour', 'shape', 'motion', 'background')
NONE = 'none'

SMALLEST_SIDE = 8  # pixels

# Colours: distances in RGB, in levels of 255.
BACKGROUND_ERROR = 40.0  # from the median of the frames' edges to the colour that is named
BACKGROUND_DRIFT = 24.0  # from the median of one frame's edge to that of all
COLOUR_ERROR = 50.0  # RMS, from a shape's pixels to the line from its background to its colour
PALEST = 0.55  # the smallest part of the way to its colour that a shape may go
SMALLEST = 8 / 1024  # the smallest area of a shape, as a share of the frame

# Outlines.  Overlap is the sum of the smaller coverage over the sum of the larger one.
OVERLAP = 0.85  # of a frame and the shape, drawn at the place, radius and angle that fit it
WORST_OVERLAP = 0.6  # in any frame
USUAL = 0.95  # the share of frames in which OVERLAP, and the limits for colours, must hold
RIVALRY = 1.25  # where another shape has an error smaller by this factor, a frame shows that one
SHAPE_FRAMES = 12  # the frames that decide on the shape; all but one have to show it

# Paths.  A pixel is a 32nd of the frame's side.
CENTRE_RMS, CENTRE_WORST = 0.75, 2.0  # pixels from the path
RADIUS_RMS, RADIUS_WORST = 0.06, 0.15  # of the radius: 6% is 12% of the area
ANGLE_RMS = np.deg2rad(12)
# The ranges of `data.synthetic`, and about a quarter more.
TRAVEL = (0.16, 0.52)  # sides of the frame in five seconds
GROWTH = (1.7, 3.2)  # the larger radius over the smaller
TURNS = (0.8, 1.8)  # in five seconds
ARM = (0.35, 0.65)  # radii from the axis to the centre
LEAP = (0.19, 0.4)  # sides of the frame
BOUNCES = (1.7, 3.3)  # in five seconds

_BLURS = (0.0, 0.12, 0.25, 0.35)  # the weights of a pixel's neighbours: sigma 0, 0.5, 0.7, 0.84


@dataclasses.dataclass(frozen=True)
class Path:
  """What one motion says of the centre, the radius and the angle in each frame."""

  motion: str
  plausible: bool  # its speed is one that the renderer draws, or near
  centre: np.ndarray  # complex ` t`: x + iy, in sides of the frame
  log_radius: np.ndarray
  angle: np.ndarray  # radians, clockwise


def judge(video: UInt8[np.ndarray, 't h w 3']) -> synthetic.Scene:
  """The facts that a clip of five seconds shows; 'none' for those that fit no word.

  Frames are square, of `SMALLEST_SIDE` pixels or more, and evenly spaced: frame i is at 5 i / t
  seconds.
  """
  background, colour, cover = _colours(video.astype(np.float32))
  shape, blur = _shape(cover)
  motion = NONE if shape == NONE else _motion(shape, blur, cover)
  return synthetic.Scene(colour, shape, motion, background)


def _colours(video) -> tuple[str, str, Float[np.ndarray, 't h w']]:
  """The names of the background and the shape's colour, and the coverage, from 0 to 1."""
  edges = np.concatenate([video[:, 0], video[:, -1], video[:, 1:-1, 0], video[:, 1:-1, -1]], axis=1)
  edge = np.median(edges, axis=1)
  back = np.median(edge, axis=0)
  errors = {name: np.linalg.norm(back - rgb) for name, rgb in synthetic.BACKGROUNDS.items()}
  nearest = min(errors, key=errors.get)
  steady = np.mean(np.linalg.norm(edge - back, axis=1) <= BACKGROUND_DRIFT) >= USUAL
  background = nearest if steady and errors[nearest] <= BACKGROUND_ERROR else NONE

  difference = video - back
  square = np.sum(np.square(difference), axis=-1)
  best = None
  for name in (name for name in synthetic.COLOURS if name != nearest):
    fore = np.float32(synthetic.COLOURS[name]) - back
    raw = difference @ fore / (fore @ fore)
    part = np.clip(raw, 0, 1)
    off = square - part * (2 * raw - part) * (fore @ fore)  # squared distances from the line
    if best is None or off.sum() < best[0].sum():
      best = off, name, raw
  off, colour, cover = best
  seen = cover > 0.5
  if not seen.any():
    return background, NONE, np.zeros_like(cover)
  # A shape may be a little paler than its colour, but equally in all frames.
  strength = np.percentile(cover[seen], 75)
  count = np.maximum(seen.sum((1, 2)), 1)
  right = np.sqrt(np.sum(np.maximum(off, 0) * seen, (1, 2)) / count) <= COLOUR_ERROR
  if strength < PALEST or np.mean(right) < USUAL:
    colour = NONE
  cover = np.clip(cover / np.clip(strength, PALEST, 1), 0, 1)
  return background, colour, np.where(cover < shape_fit.FLOOR, 0, cover)


def _shape(cover) -> tuple[str, float]:
  """The shape that fits some frames best, and their blur, one of `_BLURS`."""
  area = cover.mean((1, 2))
  if np.mean(area >= SMALLEST) < USUAL:
    return NONE, 0.0
  some = np.linspace(0, len(cover) - 1, SHAPE_FRAMES).round().astype(int)
  some = some[area[some] >= SMALLEST]
  cover, area = cover[some], area[some]
  errors, blurs, overlaps = [], [], []
  for shape in synthetic.SHAPES:
    drawn = shape_fit.draw(shape, shape_fit.fit(shape, cover), cover.shape[-1])
    drawn = [shape_fit.soften(drawn, blur) for blur in _BLURS]
    error = np.stack([np.square(cover - one).mean((1, 2)) / area for one in drawn])
    best = error.mean(1).argmin()
    errors.append(error[best])
    blurs.append(_BLURS[best])
    overlaps.append(shape_fit.overlap(cover, drawn[best]))
  errors = np.stack(errors)
  best = errors.mean(1).argmin()
  shown = errors[best] <= RIVALRY * errors.min(0) + 2e-3
  if np.sum(~shown) > 1 or np.sum(overlaps[best] < OVERLAP) > 1:
    return NONE, 0.0
  return synthetic.SHAPES[best], blurs[best]


def _motion(shape: str, blur: float, cover) -> str:
  """The motion whose path is closest to what all frames show."""
  poses = shape_fit.fit(shape, cover)
  overlap = shape_fit.overlap(
    cover, shape_fit.soften(shape_fit.draw(shape, poses, cover.shape[-1]), blur)
  )
  if np.mean(overlap >= OVERLAP) < USUAL or overlap.min() < WORST_OVERLAP:
    return NONE
  errors = {}
  for path in _paths(poses):
    centre = 32 * np.abs(poses[:, 0] + 1j * poses[:, 1] - path.centre)
    radius = np.abs(np.log(poses[:, 2]) - path.log_radius)
    period = shape_fit.PERIODS.get(shape, 1.0)
    angle = (poses[:, 3] - path.angle + period / 2) % period - period / 2
    limits = (
      (_rms(centre), CENTRE_RMS),
      (centre.max(), CENTRE_WORST),
      (_rms(radius), RADIUS_RMS),
      (radius.max(), RADIUS_WORST),
      (_rms(angle) if shape in shape_fit.PERIODS else 0.0, ANGLE_RMS),
    )
    if path.plausible and all(error <= limit for error, limit in limits):
      errors[path.motion] = sum(error / limit for error, limit in limits)
  return min(errors, key=errors.get, default=NONE)


def _paths(poses: Float[np.ndarray, 't 4']) -> list[Path]:
  """The best path of each motion; of opposite motions, the one that goes the right way."""
  x, y, radius = poses[:, 0], poses[:, 1], np.log(poses[:, 2])
  u, one = np.arange(len(x)) / len(x), np.ones(len(x))
  z, zero, line = x + 1j * y, np.zeros(len(x)), np.stack([one, u], axis=1)
  still, same = one * z.mean(), one * radius.mean()
  paths = [Path('standing still', True, still, same, zero)]

  for values, unit, names in (
    (x, 1, ('moving left', 'moving right')),
    (y, 1j, ('moving up', 'moving down')),
  ):
    (_, speed), fitted = _least_squares(line, values)
    centre = unit * fitted + (1j * y.mean() if unit == 1 else x.mean())
    paths.append(Path(names[int(speed > 0)], _within(abs(speed), TRAVEL), centre, same, zero))

  (_, rate), fitted = _least_squares(line, radius)
  name = ('shrinking', 'growing')[int(rate > 0)]
  paths.append(Path(name, _within(np.exp(abs(rate)), GROWTH), still, fitted, zero))

  def spin(turns):
    turned = 2 * np.pi * turns * u
    (_, arm), fitted = _least_squares(np.stack([one, np.exp(1j * turned)], axis=1), z)
    plausible = _within(abs(arm) / np.exp(same[0]), ARM)
    return Path('spinning', plausible, fitted, same, np.angle(arm) + turned)

  def bounce(bounces):
    hop = bounces * u % 1
    (_, rise), fitted = _least_squares(np.stack([one, 4 * hop * (1 - hop)], axis=1), y)
    return Path('bouncing', _within(-rise, LEAP), x.mean() + 1j * fitted, same, zero)

  turns = np.linspace(*TURNS, 41)
  for tried in (
    [spin(number) for number in (*turns, *-turns)],
    [bounce(number) for number in np.linspace(*BOUNCES, 65)],
  ):
    paths.append(min(tried, key=lambda path: _rms(z - path.centre)))
  return paths


def _least_squares(basis, values):
  """The coefficients of the columns of the basis, and the fitted values."""
  coefficients = np.linalg.lstsq(basis, values, rcond=None)[0]
  return coefficients, basis @ coefficients


def _within(value, limits) -> bool:
  return bool(limits[0] <= value <= limits[1])


def _rms(values: Num[np.ndarray, ' t']) -> float:
  return float(np.sqrt(np.mean(np.square(np.abs(values)))))


def parse(caption: str) -> synthetic.Scene:
  """The facts that a caption states; any that no clip can show is a UserError."""
  colours, shapes, motions, backgrounds = (
    '|'.join(names)
    for names in (synthetic.COLOURS, synthetic.SHAPES, synthetic.MOTIONS, synthetic.BACKGROUNDS)
  )
  pattern = rf'a ({colours}) ({shapes}) ({motions}) on a ({backgrounds}) background'
  match = re.fullmatch(pattern, caption.strip())
  if not match:
    example = synthetic.SCENES[0].caption
    raise UserError(f'{caption!r} is no caption of moving shapes, such as {example!r}.')
  return synthetic.Scene(*match.groups())


def report(videos, scenes: list[synthetic.Scene]) -> str:
  """The shares of videos that show what the scenes say, for each word and for all, and the others.

  videos: uint8 `n t h w 3`.
  """
  judged = [judge(video) for video in videos]
  right = {w: [getattr(j, w) == getattr(s, w) for j, s in zip(judged, scenes)] for w in WORDS}
  right['all four'] = [j == s for j, s in zip(judged, scenes)]
  lines = [f'{word:10}  {np.mean(values):6.1%}' for word, values in right.items()]
  for i, (one, scene) in enumerate(zip(judged, scenes)):
    if one != scene:
      lines.append(f'{i}: {scene.caption}; shows {one.caption}')
  return '\n'.join(lines)


def main() -> None:
  folder = open_folder(flags.FLAGS.videos)
  prompts, skipped = folder.prompts(), {}
  videos = dict(clips(folder, Reading(0), np.asarray, skip=skipped.__setitem__))
  for file, clip in videos.items():
    _, h, w, _ = clip.shape
    if h != w or h < SMALLEST_SIDE:
      raise UserError(
        f'{file} has frames of {w}x{h}; allowed are squares of {SMALLEST_SIDE} or more.'
      )
  for file, reason in skipped.items():
    print(f'skipped {file}: {reason}')
  print(report([*videos.values()], [parse(prompts[file]) for file in videos]))


if __name__ == '__main__':
  flags.DEFINE_string('videos', None, 'Folder of videos with an index of prompts.', required=True)
  command.run(main)
