"""Vigilance checks: pairs of videos of which one is obviously wrong (Lumiere, Sec. 5.2)."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from core import video
from core.errors import UserError
from evaluation.motion import MIN_FRAMES, motion, trace

STILL = 1.0  # mean change between frames, in levels of 255, up to which a video counts as still

_GRAIN = 8  # the side of squares of noise in pixels; videos of finer noise are too large


class Moving(NamedTuple):
  """A video and its motion: the mean change from a frame to the next, in levels of 255."""

  amount: float
  id: str
  name: str


def motion_amount(clip: video.Pixels) -> float:
  """The motion of a clip, as `Moving` has it; 0 for clips too short to measure it."""
  return motion(trace(clip)) if len(clip) >= MIN_FRAMES else 0.0


def check_kinds(count: int, questions: Sequence[str]) -> list[str]:
  """The kind of the wrong video of each check: 'still' or 'noise'."""
  # A still may match a text well, so that it is no check of that question.
  return ['noise' if i % 2 or 'quality' not in questions else 'still' for i in range(count)]


def first_suitable(videos: Iterable[Moving], kinds: Sequence[str]) -> list[Moving]:
  """The first videos that suffice for checks of these kinds, sorted by decreasing motion.

  No more videos are taken from the iterable, since there may be thousands.
  """
  selected, still_count = [], 0
  for moving in videos if kinds else ():
    still_count += moving.amount <= STILL
    if moving.amount > STILL or still_count <= kinds.count('noise'):
      selected.append(moving)
    if len(selected) == len(kinds):
      break
  return sorted(selected, key=lambda moving: -moving.amount)


def median_first(videos: Sequence[Moving]) -> list[Moving]:
  """The videos that move, from the median motion to the extremes, followed by the others."""
  movers = sorted(moving for moving in videos if moving.amount > STILL)
  middle = (len(movers) - 1) / 2
  ranks = sorted(range(len(movers)), key=lambda rank: abs(rank - middle))
  return [movers[rank] for rank in ranks] + [one for one in videos if one.amount <= STILL]


def assign(videos: Sequence[Moving], kinds: Sequence[str]) -> Iterator[tuple[str, Moving]]:
  """Each kind with a video for it; the first videos that move are for 'still'.

  UserError where 'still' is asked for and no video moves.
  """
  stills = [moving for moving in videos if moving.amount > STILL][: kinds.count('still')]
  if 'still' in kinds and not stills:
    raise UserError(
      f'No video changes by more than {STILL} of 255 levels a frame, and a check needs one that '
      'moves: allowed is a folder of real videos.'
    )
  others = [moving for moving in videos if moving not in stills] or videos
  sources = {'still': itertools.cycle(stills), 'noise': itertools.cycle(others)}
  return ((kind, next(sources[kind])) for kind in kinds)


def spoil(clip: video.Pixels, kind: str, rng: random.Random) -> video.Pixels:
  """The wrong video of a check: the first frame of the clip all the time, or noise of its shape."""
  if kind == 'still':
    return np.repeat(clip[:1], len(clip), 0)
  t, h, w, c = clip.shape
  coarse = (t, -(-h // _GRAIN), -(-w // _GRAIN), c)
  pixels = np.random.default_rng(rng.getrandbits(64)).integers(0, 256, coarse, np.uint8)
  return video.upscaled(pixels, _GRAIN)[:, :h, :w]
