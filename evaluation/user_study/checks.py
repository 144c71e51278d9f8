"""Checks of vigilance: pairs of videos one of which is plainly wrong (Lumiere, Sec. 5.2)."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from core import video
from core.errors import UserError
from evaluation.motion import FEWEST, motion, trace

STILL = 1.0  # levels of 255 between frames: a video that changes less does not move

_GRAIN = 8  # pixels: of finer noise, a check would be larger than all other videos


class Moving(NamedTuple):
  """A video, and how much it moves: by levels of 255 from a frame to the next."""

  amount: float
  id: str
  name: str


def moves(clip: video.Pixels) -> float:
  """How much a clip moves."""
  return motion(trace(clip)) if len(clip) >= FEWEST else 0.0


def kinds(count: int, questions: Sequence[str]) -> list[str]:
  """What is wrong with one side of each check: it is 'still', or 'noise'."""
  # Whether a still matches a text, is no question of vigilance.
  return ['noise' if i % 2 or 'quality' not in questions else 'still' for i in range(count)]


def enough(videos: Iterable[Moving], asked: Sequence[str]) -> list[Moving]:
  """The first videos that checks of these kinds need, those that move most in front.

  No more are taken from the iterable: there may be thousands.
  """
  found, still = [], 0
  for one in videos if asked else ():
    still += one.amount <= STILL
    if one.amount > STILL or still <= asked.count('noise'):
      found.append(one)
    if len(found) == len(asked):
      break
  return sorted(found, key=lambda one: -one.amount)


def from_the_middle(videos: Sequence[Moving]) -> list[Moving]:
  """Those that move, from the median on to both extremes, and then the others."""
  movers = sorted(one for one in videos if one.amount > STILL)
  middle = (len(movers) - 1) / 2
  ranks = sorted(range(len(movers)), key=lambda rank: abs(rank - middle))
  return [movers[rank] for rank in ranks] + [one for one in videos if one.amount <= STILL]


def chosen(videos: Sequence[Moving], asked: Sequence[str]) -> Iterator[tuple[str, Moving]]:
  """Each kind with its video, the first ones for stills; ValueError where none of these moves."""
  stills = [one for one in videos if one.amount > STILL][: asked.count('still')]
  if 'still' in asked and not stills:
    raise UserError(
      f'No video changes by more than {STILL} of 255 levels a frame, and a check needs one that '
      'moves: allowed is a folder of real videos.'
    )
  others = [one for one in videos if one not in stills] or videos
  sources = {'still': itertools.cycle(stills), 'noise': itertools.cycle(others)}
  return ((kind, next(sources[kind])) for kind in asked)


def spoilt(clip: video.Pixels, kind: str, rng: random.Random) -> video.Pixels:
  """The clip with this wrong: its first frame all the time, or noise in its place."""
  if kind == 'still':
    return np.repeat(clip[:1], len(clip), 0)
  t, h, w, c = clip.shape
  coarse = (t, -(-h // _GRAIN), -(-w // _GRAIN), c)
  pixels = np.random.default_rng(rng.getrandbits(64)).integers(0, 256, coarse, np.uint8)
  return video.upscaled(pixels, _GRAIN)[:, :h, :w]
