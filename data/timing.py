"""Presentation times and durations of frames, estimated where a file has none or wrong ones."""

import collections
import dataclasses
import heapq
import numbers
from collections.abc import Iterator

import av

from core.errors import UserError

SLACK = 1e-3  # seconds to which containers round presentation times
GAP = 10.0  # the longest duration in seconds, unless the container states a longer one
UNKNOWN = 1 / 25  # the duration in seconds if nothing in the file gives one
REORDER = 8  # frames over which presentation times may be out of order


@dataclasses.dataclass(frozen=True)
class Frame:
  """A frame as it is stored, with its times and the aspect ratio of its pixels."""

  time: float  # when it is shown first, in seconds from the first frame's time
  end: float  # until when it is shown
  image: av.VideoFrame
  aspect: float  # width of a pixel / height of a pixel


def timed(
  images: Iterator[av.VideoFrame], *, usual: float, aspect: float, end: float | None
) -> Iterator[Frame]:
  """The frames with their times in seconds, in the order of `images`.

  usual: the duration in seconds of a frame whose duration and time are unknown.
  end: the time at which the container says that the video ends, or None if it does not say so.

  ValueError if `images` raises one, or if no frame follows for more than `GAP` seconds.  The latter
  is allowed if `end` is not before the next frame, or, where `end` is None, if the duration of the
  earlier frame lasts until then.
  """
  last = None
  for frame in _ordered(images, usual, aspect, end):
    if last is not None and (gap := frame.time - last.time) > GAP:
      if frame.time > (last.end if end is None else end) + SLACK:
        raise UserError(f'damaged: no frame for {gap:g} s')
    yield frame
    last = frame


def _ordered(images, usual, aspect, end) -> Iterator[Frame]:
  """The frames with their times in ascending order: each frame gets the earliest remaining time.

  Decoders return frames in order.  In old AVI files their times are not, since they are those of
  the packets.
  """
  times, waiting, last, damage = [], collections.deque(), None, None

  def next_frame() -> Frame:
    nonlocal last
    time, image = heapq.heappop(times), waiting.popleft()
    base = image.time_base or 0
    stated = (image.duration or 0) * base.numerator / base.denominator  # faster than fractions
    since = time - last.time if last else 0.0
    length = _length(stated, since, usual, left=stated if end is None else end - time)
    last = Frame(time, time + length, image, aspect)
    return last

  try:
    for image in images:
      expected = (last.end if last else 0.0) + len(times) * usual
      heapq.heappush(times, expected if image.time is None else image.time)
      waiting.append(image)
      if len(waiting) == REORDER:
        yield next_frame()
  except ValueError as error:
    damage = error
  while waiting:
    yield next_frame()
  if damage:
    raise damage


def usual_length(rate: numbers.Rational | None) -> float:
  """The duration of a frame in seconds at this frame rate, or `UNKNOWN` if it is None."""
  return _length(float(1 / rate) if rate else 0.0, UNKNOWN, left=0.0)


def _length(*seconds: float, left: float) -> float:
  """The first of `seconds` that can be a duration: 0 or one clock tick stands for unknown.

  left: the limit in seconds for a duration of more than `GAP`.
  """
  possible = (s if s <= GAP else min(s, left) for s in seconds)
  return next(s for s in possible if s > 1.01 * SLACK)
