"""Fits the moving shapes to images of coverage: how much of each pixel a shape covers, 0 to 1.

Places and radii are in sides of the frame, with x to the right and y down, and angles in radians,
clockwise, as in `data.synthetic`.
"""

import functools

import numpy as np
from jaxtyping import Float

from data import synthetic

FLOOR = 0.1  # a smaller coverage counts as noise
PERIODS = {'square': np.pi / 2, 'triangle': 2 * np.pi / 3, 'cross': np.pi / 2}  # of angles


# With radius 1.
_AREAS = {'circle': 3.142, 'square': 2.822, 'triangle': 1.871, 'ring': 2.513, 'cross': 2.766}


def fit(shape: str, cover, rounds: int = 6) -> Float[np.ndarray, 't 4']:
  """The x, y, radius (sides of the frame) and angle (radians) with which the shape fits each frame.

  It begins at the frames' moments, with the best of six angles, and goes on by Gauss and Newton.
  """
  size = cover.shape[-1]
  area = np.maximum(cover.sum((1, 2)), 1)
  pixels = (np.arange(size) + 0.5) / size
  x, y = cover.sum(1) @ pixels / area, cover.sum(2) @ pixels / area
  poses = np.stack([x, y, np.sqrt(area / _AREAS[shape]) / size, 0 * x], axis=1)
  at = functools.partial(draw, shape, size=size)
  if shape in PERIODS:
    turns = PERIODS[shape] / 6 * np.eye(4)[3]
    starts = [poses + i * turns for i in range(6)]
    errors = [np.square(cover - at(start)).sum((1, 2)) for start in starts]
    poses = np.stack(starts)[np.argmin(errors, axis=0), np.arange(len(poses))]

  free = 4 if shape in PERIODS else 3
  probes = np.diag([0.3 / size, 0.3 / size, 0.3 / size, 0.05])[:free]
  longest = np.array([1.5 / size, 1.5 / size, 1.5 / size, 0.2])[:free]
  for _ in range(rounds):
    drawn = at(poses)
    slopes = [(at(poses + probe) - drawn) / probe.max() for probe in probes]
    slopes = np.stack(slopes, axis=1).reshape(len(poses), free, -1)
    error = (cover - drawn).reshape(len(poses), -1, 1)
    normal = slopes @ slopes.swapaxes(1, 2) + 1e-3 * np.eye(free)
    step = np.linalg.solve(normal, slopes @ error)[..., 0]
    poses[:, :free] += np.clip(step, -longest, longest)
    poses[:, 2] = np.clip(poses[:, 2], 0.04, 0.6)
  return poses


def draw(shape: str, poses, size: int) -> Float[np.ndarray, 't h w']:
  """The coverage of a shape at each of the places, radii and angles."""
  x, y, radius, angle = np.float32(poses).T[..., None, None]
  pixels = (np.arange(size, dtype=np.float32) + 0.5) / size
  x, y = (pixels - x) / radius, (pixels[:, None] - y) / radius
  if shape in PERIODS:
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
  return np.clip(0.5 - synthetic.DISTANCES[shape](x, y) * (radius * size), 0, 1)


def soften(cover, blur: float):
  """The images with so much of both neighbours in each pixel, along both axes."""
  if blur:
    for axis in (1, 2):
      sides = np.roll(cover, 1, axis) + np.roll(cover, -1, axis)
      cover = (1 - 2 * blur) * cover + blur * sides
  return cover


def overlap(cover, drawn) -> Float[np.ndarray, ' t']:
  """The share of what either of two images covers that both cover; 0 where they are empty."""
  drawn = np.where(drawn < FLOOR, 0, drawn)
  either = np.maximum(cover, drawn).sum((1, 2))
  return np.minimum(cover, drawn).sum((1, 2)) / np.maximum(either, 1e-6)
