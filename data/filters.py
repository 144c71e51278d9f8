"""Scores of a clip, and the limits that a clip of a dataset has to keep."""

import dataclasses
import math

from core.errors import UserError
from data import duplicates
from data.timing import SLACK
from data.trace import Trace

MAX_BRIGHT = 0.02  # a frame is black if at most this share of its pixels is bright
STILL = 1.0  # levels: two frames are equal up to compression if no cell changes by more than this


@dataclasses.dataclass(frozen=True)
class Scores:
  """What is measured of a clip from the frames that are shown at the rate of the dataset."""

  # Of an image, `motion` and `frozen` are NaN, so that no limit applies to them.
  motion: float  # mean absolute difference of adjacent frames, in levels from 0 to 255
  frozen: float  # share of adjacent frames that are equal up to compression
  black: float  # share of black frames
  look: str  # `duplicates.clip_hash`


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a clip must be; the defaults leave out nothing.

  ValueError if a limit is outside of the range of its score.
  """

  max_black: float = 1.0
  max_frozen: float = 1.0
  min_motion: float = 0.0
  max_motion: float = 255.0
  # Clips look alike if so many bits of their hashes differ: see `duplicates`.  -1 keeps all.
  max_distance: int = -1

  def __post_init__(self):
    bits = duplicates.FRAMES * duplicates.BITS
    ranges = {
      'max_black': (0, 1), 'max_frozen': (0, 1), 'min_motion': (0, 255), 'max_motion': (0, 255),
      'max_distance': (-1, bits // 4),
    }  # fmt: skip
    for name, (least, most) in ranges.items():
      if not least <= (value := getattr(self, name)) <= most:
        raise UserError(f'Got --{name}={value:g}; allowed is {least} to {most}.')


# The reasons for which a clip or a file is left out.
UNREADABLE, SHORT, SMALL = 'cannot be decoded', 'too short', 'too small'
BLACK, FROZEN, LITTLE, MUCH = 'black', 'frozen', 'too little motion', 'too much motion'
DUPLICATE, UNCAPTIONED = 'duplicate', 'no caption'
UNLISTED, ABSENT = 'no line in the captions', 'no such file'


def scores(trace: Trace, fps: float, start: float, end: float) -> Scores:
  """The scores of the clip from `start` to `end`, in seconds, of a video that was traced at `fps`.

  A clip of one frame of a video is frozen and has no motion.
  """
  first, last = (max(math.ceil((time - SLACK) * fps), 0) for time in (start, end))
  shown, pairs = slice(first, last), slice(first + 1, last)  # the first differs from another scene
  motion, change = trace.motion[pairs], trace.change[pairs]
  bright = trace.bright[shown]
  return Scores(
    motion=float(motion.mean()) if len(motion) else 0.0,
    frozen=float((change <= STILL).mean()) if len(change) else 1.0,
    black=float((bright <= MAX_BRIGHT).mean()) if len(bright) else 0.0,
    look=duplicates.clip_hash(trace.hashes[shown]),
  )


def image_scores(trace: Trace) -> Scores:
  """The scores of an image that was traced as a video of one frame."""
  return Scores(
    motion=math.nan,
    frozen=math.nan,
    black=float(trace.bright[0] <= MAX_BRIGHT),
    look=duplicates.clip_hash(trace.hashes[:1]),
  )


def fault(scores: Scores, limits: Limits) -> tuple[str, str] | None:
  """Why a clip is left out, as its kind and the numbers, or None."""
  checks = (
    (BLACK, scores.black > limits.max_black,
     f'{scores.black:.0%} of its frames are black; at most {limits.max_black:.0%} are allowed'),
    (FROZEN, scores.frozen > limits.max_frozen,
     f'{scores.frozen:.0%} of its frames equal the one before; at most {limits.max_frozen:.0%} '
     'are allowed'),
    (LITTLE, scores.motion < limits.min_motion,
     f'motion of {scores.motion:.3g} levels; at least {limits.min_motion:g} are needed'),
    (MUCH, scores.motion > limits.max_motion,
     f'motion of {scores.motion:.3g} levels; at most {limits.max_motion:g} are allowed'),
  )  # fmt: skip
  return next(((kind, reason) for kind, applies, reason in checks if applies), None)
