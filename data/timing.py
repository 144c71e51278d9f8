"""When each frame of a video is shown, and where the times of a file can't be right."""

import collections
import dataclasses
import fractions
import heapq
from collections.abc import Iterator

import av

from core.errors import UserError

SLACK = 1e-3  # seconds to which containers round presentation times
GAP = 10.0  # seconds for which a frame may be shown where the container does not say for how long
UNKNOWN = 1 / 25  # seconds for which a frame is shown where nothing tells for how long
REORDER = 8  # frames over which presentation times may be out of order


@dataclasses.dataclass(frozen=True)
class Frame:
  """A frame as it is stored, with what is needed to show it."""

  time: float  # seconds from the first frame's
  end: float
  image: av.VideoFrame
  aspect: float  # a pixel's width to its height


def timed(
  images: Iterator[av.VideoFrame], *, usual: float, aspect: float, end: float | None
) -> Iterator[Frame]:
  """The frames with their times in seconds, in the order of `images`.

  usual: seconds from a frame to the next, which is used where neither its length nor its time is
    known.
  end: the time at which the container says that the video ends, or None where it does not say.
  ValueError where that of `images` was raised, and where for more than `GAP` seconds there is no
  frame, unless the container says so: by an end that is not before the next frame, or where it
  tells none, by the length of the frame before.
  """
  last = None
  for frame in _ordered(images, usual, aspect, end):
    if last is not None and (gap := frame.time - last.time) > GAP:
      if frame.time > (last.end if end is None else end) + SLACK:
        raise UserError(f'damaged: no frame for {gap:g} s')
    yield frame
    last = frame


def _ordered(images, usual, aspect, end) -> Iterator[Frame]:
  """The frames with their times, each of which is taken by the first frame to which it can belong.

  Decoders put frames in order.  In old AVI files only the times are not: they are the packets'.
  """
  times, waiting, last, damage = [], collections.deque(), None, None

  def take() -> Frame:
    nonlocal last
    time, image = heapq.heappop(times), waiting.popleft()
    told = float((image.duration or 0) * (image.time_base or 0))
    since = time - last.time if last else 0.0
    length = _length(told, since, usual, left=told if end is None else end - time)
    last = Frame(time, time + length, image, aspect)
    return last

  try:
    for image in images:
      expected = (last.end if last else 0.0) + len(times) * usual
      heapq.heappush(times, expected if image.time is None else image.time)
      waiting.append(image)
      if len(waiting) == REORDER:
        yield take()
  except ValueError as error:
    damage = error
  while waiting:
    yield take()
  if damage:
    raise damage


def usual_length(rate: fractions.Fraction | None) -> float:
  """The seconds from a frame to the next at so many a second, or `UNKNOWN`."""
  return _length(float(1 / rate) if rate else 0.0, UNKNOWN, left=0.0)


def _length(*seconds: float, left: float) -> float:
  """The first which can be a frame's: containers write 0, or a tick of their clock, for unknown.

  left: seconds for which a frame may be shown, as the container says, although it is so long.
  """
  possible = (s if s <= GAP else min(s, left) for s in seconds)
  return next(s for s in possible if s > 1.01 * SLACK)
