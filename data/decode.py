"""Videos of any container and codec as frames at a fixed rate; headers are not trusted."""

import contextlib
import dataclasses
import itertools
import math
import pathlib
from collections.abc import Callable, Iterator

import av
import numpy as np
from jaxtyping import UInt8

from core.errors import UserError
from core.frame_size import Size, height_width
from data import animation, colours, interlace, orientation, streams, timing, transforms
from data.timing import SLACK, Frame

Source = streams.Source

MAX_PIXELS = 2**25  # in one frame: a little more than 8K video has
MAX_LENGTH = 86_400.0  # seconds of a video
MAX_BYTES = 2**33  # of the frames that `decode` returns
FAR = 5.0  # seconds: a start up to here is reached by decoding, a later one by seeking


@dataclasses.dataclass(frozen=True)
class Facts:
  """The length and size of a file, from decoding all of it."""

  frames: int
  seconds: float  # from the beginning of the first frame to the end of the last one
  height: int  # after rotation to upright, with square pixels
  width: int
  fault: str | None  # why decoding stopped before the end of the file


def decode(
  file: Source,
  *,
  fps: float | None = 16.0,
  start: float = 0.0,
  count: int | None = None,
  size: Size | None = None,
) -> UInt8[np.ndarray, 't h w 3']:
  """The frames shown at the times `start + k / fps`, or if `fps` is None all stored frames from
  `start` on.

  Times are seconds from the first frame.  A frame is shown until the next one's presentation time,
  and the last one for its duration.  Frames are rotated upright and have square pixels.  They are
  resized until they just cover frames of this `size`, as `transforms.covering` says; for a single
  number that is their shorter side.  If it is None, they keep the size at which they are stored.

  Returns `count` frames, or if it is None all until the end of the file.  A damaged file ends where
  the damage begins; lost frames are not replaced by others.

  ValueError if the file can't be opened, has no frame, has frames of more than `MAX_PIXELS`, lasts
  longer than `MAX_LENGTH`, ends before there are `count` frames, or if these take more than
  `MAX_BYTES`.
  """
  if (fps is not None and fps <= 0) or start < 0 or (count is not None and count < 1):
    raise UserError(
      f'Got fps={fps}, start={start:g} and count={count}; allowed are fps > 0 or None, start >= 0 '
      'and count >= 1 or None.'
    )
  frames, damage = _first(file, pictures(file, fps=fps, start=start, size=size), count)
  if damage and not len(frames):
    raise damage
  if len(frames) < (count or 1):
    rate = '' if fps is None else f' at {fps:g} a second'
    reason = f'ends early: {len(frames)} of {count or 1} frames{rate}'
    raise UserError(_named(file, reason)) from damage
  return frames


def beginning(
  file: Source, count: int, *, fps: float | None = 16.0
) -> tuple[UInt8[np.ndarray, 't h w 3'], str | None]:
  """The first `count` frames, or all if there are fewer, and the damage that ended them early.

  Later frames are not decoded.  The errors are those of `decode`.
  """
  frames, damage = _first(file, pictures(file, fps=fps), count)
  if damage and not len(frames):
    raise damage
  return frames, str(damage) if damage else None


def _first(
  file: Source, frames: Iterator, count: int | None
) -> tuple[UInt8[np.ndarray, 't h w 3'], ValueError | None]:
  """The first `count` frames, or all, and the damage that ended them early."""
  taken, n, damage, size = np.empty((0, 0, 0, 3), np.uint8), 0, None, 0
  with contextlib.closing(frames):
    try:
      for frame in itertools.islice(frames, count):
        size += frame.nbytes
        if size > MAX_BYTES:
          break
        if n == len(taken):
          taken = _longer(taken, frame, count)
        # Copied at once, so that the next frame gets the same memory: new memory takes longer.
        taken[n] = frame
        n += 1
    except ValueError as error:
      damage = error
  if size > MAX_BYTES:
    height, width, _ = frame.shape
    reason = f'more than {n} frames of {width} x {height} pixels'
    raise UserError(_named(file, f'{reason}; at most {MAX_BYTES / 2**30:g} GiB are allowed'))
  return taken[:n], damage


def _longer(taken: np.ndarray, frame: np.ndarray, count: int | None) -> np.ndarray:
  """The frames, with room for `count` such frames in all, or if it is None for twice as many."""
  room = min(count or max(2 * len(taken), 16), MAX_BYTES // frame.nbytes)
  longer = np.empty((room, *frame.shape), np.uint8)
  longer[: len(taken)] = taken if len(taken) else longer[:0]
  return longer


def pictures(
  file: Source, *, fps: float | None = 16.0, start: float = 0.0, size: Size | None = None
) -> Iterator[UInt8[np.ndarray, 'h w 3']]:
  """Yields the frames of `decode`.

  A frame that is shown at several times is the same array.  The ValueErrors are those of `decode`;
  for damage, one is raised after the last good frame.
  """
  pixels, shown, shape = None, None, None
  with contextlib.closing(read(file, start)) as frames:
    for frame in sampled(frames, fps, start):
      if shape is None:
        with _name_in_errors(file):
          shape = stored_shape(frame, size)
      pixels = pixels if frame is shown else picture(frame.image, shape)
      shown = frame
      yield pixels


def available(seconds: float, fps: float) -> int:
  """The number of frames that `decode` returns for a video of this length."""
  return max(math.ceil((seconds - SLACK) * fps), 0)


def probe(file: Source, see: Callable[[Frame], None] = lambda frame: None) -> Facts:
  """The facts about a file, which is decoded completely; the errors are those of `decode`.

  see: is called with each frame, in order of time.
  """
  count, first, last, fault = 0, None, None, None
  try:
    for last in read(file):
      see(last)
      count, first = count + 1, first or last
  except ValueError as error:
    if first is None:
      raise
    fault = str(error)
  height, width = stored_shape(first, None)
  if orientation.of_frame(first.image)[0]:
    height, width = width, height
  return Facts(count, last.end, height, width, fault)


def read(file: Source, start: float = 0.0) -> Iterator[Frame]:
  """Yields the frames of a file in order of time, beginning with one shown no later than `start`.

  The ValueErrors are those of `decode`; for damage, one is raised after the last good frame.
  """
  with _name_in_errors(file):
    frames = _webp(file) if _is_webp(file) else _video(file, start)
    with contextlib.closing(frames):
      yield from frames


def _is_webp(file: Source) -> bool:
  try:
    return animation.is_webp(file)
  except OSError as error:
    raise UserError(f'cannot be opened: {streams.reason(error)}') from error


def _webp(file: Source) -> Iterator[Frame]:
  images = animation.frames(file, MAX_PIXELS)
  return timing.timed(images, usual=timing.UNKNOWN, aspect=1.0, end=None)


def _video(file: Source, start: float) -> Iterator[Frame]:
  with streams.opened(file, MAX_PIXELS) as (container, stream):
    frames = _timed(container, stream, lambda: streams.leading_packets(file, MAX_PIXELS))
    first = next(frames, None)
    if first is None:
      raise UserError('no decodable frame')
    frames = itertools.chain([first], frames)
    if start > FAR:
      frames = _seek(container, stream, first.time + start)
      if frames is None:  # some containers can't be sought, or seek to a wrong place
        yield from _video(file, 0.0)
        return
    for frame in frames:
      frame = Frame(frame.time - first.time, frame.end - first.time, frame.image, frame.aspect)
      if frame.end > MAX_LENGTH:
        raise UserError(f'lasts {frame.end:g} s or more; at most {MAX_LENGTH:g} s are allowed')
      yield frame


def _seek(container, stream, time: float) -> Iterator[Frame] | None:
  """The frames from a key frame at or before `time`, or None if seeking does not find one."""
  try:
    container.seek(int(time / stream.time_base), stream=stream)
    frames = _timed(container, stream, lambda: 0)
    first = next(frames, None)
  except (av.FFmpegError, ValueError):
    return None
  return itertools.chain([first], frames) if first and first.time <= time + SLACK else None


def _timed(container, stream, leading) -> Iterator[Frame]:
  ratio = stream.sample_aspect_ratio
  return timing.timed(
    interlace.progressive(streams.intact(container, stream, leading)),
    usual=timing.usual_length(stream.average_rate or stream.guessed_rate),
    aspect=float(ratio) if ratio else 1.0,
    end=streams.stated_end(container, stream),
  )


def sampled(frames: Iterator[Frame], fps: float | None, start: float) -> Iterator[Frame]:
  """The frame shown at each time `start + k / fps`, or if `fps` is None all from `start` on."""
  if fps is None:
    yield from (frame for frame in frames if frame.time > start - SLACK)
    return
  shown, damage, k = None, None, 0
  try:
    for frame in frames:
      while shown and start + k / fps < frame.time - SLACK:
        yield shown
        k += 1
      shown = frame
  except ValueError as error:
    damage = error
  while shown and start + k / fps < shown.end - SLACK:
    yield shown
    k += 1
  if damage:
    raise damage


def stored_shape(frame: Frame, size: Size | None) -> tuple[int, int]:
  """Height and width in square pixels before rotation, after which they cover `size`, if given."""
  height, width = frame.image.height, max(round(frame.image.width * frame.aspect), 1)
  if size is not None:
    cover = height_width(size)
    transposed, *_ = orientation.of_frame(frame.image)
    height, width = transforms.covering(height, width, cover[::-1] if transposed else cover)
  streams.require_pixels(width, height, MAX_PIXELS)
  return height, width


def picture(image: av.VideoFrame, shape: tuple[int, int]) -> UInt8[np.ndarray, 'h w 3']:
  """The frame as `decode` returns it: of this shape, see `stored_shape`, and then upright."""
  pixels = colours.rgb(image, *shape)
  transposed, mirrored, upside_down = orientation.of_frame(image)
  pixels = pixels.swapaxes(0, 1) if transposed else pixels
  return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


@contextlib.contextmanager
def _name_in_errors(file: Source):
  """Adds the file's name to a ValueError, if the file has a name."""
  try:
    yield
  except ValueError as error:
    raise UserError(_named(file, str(error))) from error


def _named(file: Source, reason: str) -> str:
  return f'{file}: {reason}' if isinstance(file, str | pathlib.Path) else reason
