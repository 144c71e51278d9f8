"""Videos of any container and codec as frames at a fixed rate.  Headers are not believed."""

import collections
import contextlib
import dataclasses
import heapq
import io
import itertools
import math
import pathlib
from collections.abc import Iterator

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition
from jaxtyping import UInt8

from data import transforms

Source = str | pathlib.Path | bytes  # a path, or a file's contents

MAX_PIXELS = 2**25  # in one frame: a little more than 8K video has
SLACK = 1e-3  # seconds to which containers round presentation times
FAR = 5.0  # seconds; frames up to here are decoded on the way, beyond it the file is searched
GAP = 10.0  # seconds for which a frame may be shown; beyond, a presentation time is wrong
REORDER = 8  # frames over which presentation times may be out of order


@dataclasses.dataclass(frozen=True)
class Facts:
  """What decoding the whole of a file found."""

  frames: int
  seconds: float  # from the beginning of the first frame to the end of the last one
  height: int  # upright, of square pixels
  width: int
  fault: str | None  # why decoding ended before the file did


@dataclasses.dataclass(frozen=True)
class Frame:
  """A frame as it is stored, with what is needed to show it."""

  time: float  # seconds from the first frame's
  end: float
  image: av.VideoFrame
  aspect: float  # a pixel's width to its height


def decode(
  file: Source,
  *,
  fps: float | None = 16.0,
  start: float = 0.0,
  count: int | None = None,
  size: int | None = None,
) -> UInt8[np.ndarray, 't h w 3']:
  """Frames at `fps`: for each of the times `start + k / fps` the one which is shown then; without
  `fps` those from `start` on, as they are stored.

  Times are seconds from the first frame.  A frame is shown until the next one's presentation time,
  the last one for its duration.  Frames are upright and their pixels square.  With `size` that is
  their shorter side, without it they have the size at which they are stored.

  Returns `count` frames, or without it all to the end of the file.  A damaged file ends where the
  damage begins: no frame stands in for a lost one.  A ValueError tells of a file which cannot be
  opened, has no frame, has frames of more than `MAX_PIXELS`, or ends before there are `count`.
  """
  if (fps is not None and fps <= 0) or start < 0 or (count is not None and count < 1):
    raise ValueError(
      f'Got fps={fps}, start={start:g} and count={count}; allowed are fps > 0 or none, start >= 0 '
      'and count >= 1 or none.'
    )
  found, damage = [], None
  with contextlib.closing(pictures(file, fps=fps, start=start, size=size)) as every:
    try:
      for picture in itertools.islice(every, count):
        found.append(picture)
    except ValueError as error:
      damage = error
  if len(found) < (count or 1):
    rate = '' if fps is None else f' at {fps:g} a second'
    reason = f'ends early: {len(found)} of {count or 1} frames{rate}'
    raise damage if damage and not found else ValueError(_named(file, reason)) from damage
  return np.stack(found)


def pictures(
  file: Source, *, fps: float | None = 16.0, start: float = 0.0, size: int | None = None
) -> Iterator[UInt8[np.ndarray, 'h w 3']]:
  """The frames of `decode` one after the other; its ValueErrors, of damage after the last good one.

  A frame that is shown again is the same array.
  """
  picture, shown, shape = None, None, None
  with contextlib.closing(read(file, start)) as frames:
    for frame in _sampled(frames, fps, start):
      shape = shape or _stored_shape(frame, size)
      picture = picture if frame is shown else _picture(frame.image, shape)
      shown = frame
      yield picture


def available(seconds: float, fps: float) -> int:
  """The number of frames which `decode` finds in so many seconds."""
  return max(math.ceil((seconds - SLACK) * fps), 0)


def probe(file: Source) -> Facts:
  """The facts of a file, all of which is decoded; the errors are those of `decode`."""
  count, first, last, fault = 0, None, None, None
  try:
    for last in read(file):
      count, first = count + 1, first or last
  except ValueError as error:
    if first is None:
      raise
    fault = str(error)
  height, width = _stored_shape(first, None)
  if _orientation(first.image)[0]:
    height, width = width, height
  return Facts(count, last.end, height, width, fault)


def read(file: Source, start: float = 0.0) -> Iterator[Frame]:
  """The frames of a file in order of time, from one which is presented no later than `start`.

  Raises the ValueErrors of `decode`; where a file is damaged, after its last good frame.
  """
  with _opened(file) as (container, stream):
    frames = _timed(container, stream, file)
    first = next(frames, None)
    if first is None:
      raise ValueError(_named(file, 'no decodable frame'))
    frames = itertools.chain([first], frames)
    if start > FAR:
      frames = _sought(container, stream, file, first.time + start)
      if frames is None:  # not every container can be searched, or tells the truth then
        yield from read(file)
        return
    previous = None
    for frame in frames:
      if previous is not None and frame.time - previous > GAP:
        raise ValueError(_named(file, f'damaged: no frame for {frame.time - previous:g} s'))
      previous = frame.time
      yield dataclasses.replace(frame, time=frame.time - first.time, end=frame.end - first.time)


@contextlib.contextmanager
def _opened(file: Source):
  source = io.BytesIO(file) if isinstance(file, bytes) else str(file)
  try:
    # One of HMDB51's files has metadata which is no UTF-8; some formats name further files.
    container = av.open(source, metadata_errors='ignore', options={'protocol_whitelist': 'file'})
  except (av.FFmpegError, OSError) as error:
    raise ValueError(_named(file, f'cannot be opened: {_reason(error)}')) from error
  with container:
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
      raise ValueError(_named(file, 'no video stream'))
    codec = videos[0].codec_context
    if codec is None:
      raise ValueError(_named(file, 'no decoder for its video stream'))
    _require_pixels(file, codec.height, codec.width)
    # The frames may be larger than the header told: FFmpeg looks at each before it allocates it.
    codec.options = {'max_pixels': str(MAX_PIXELS)}
    codec.thread_count = 1  # loaders decode one file in each of their workers
    yield container, videos[0]


def _sought(container, stream, file: Source, time: float) -> Iterator[Frame] | None:
  """The frames from a key frame at or before `time`, or None where that was not found."""
  try:
    container.seek(int(time / stream.time_base), stream=stream)
    frames = _timed(container, stream, file)
    first = next(frames, None)
  except (av.FFmpegError, ValueError):
    return None
  return itertools.chain([first], frames) if first and first.time <= time + SLACK else None


def _timed(container, stream, file: Source) -> Iterator[Frame]:
  """The frames with their times, each of which is taken by the first frame to which it can belong.

  Decoders put frames in order.  In old AVI files only the times are not: they are the packets'.
  """
  ratio, rate = stream.sample_aspect_ratio, stream.average_rate or stream.guessed_rate
  usual = _length(float(1 / rate) if rate else 0.0, 1 / 25)
  aspect = float(ratio) if ratio else 1.0
  times, images, last, damage = [], collections.deque(), None, None

  def take() -> Frame:
    nonlocal last
    time, image = heapq.heappop(times), images.popleft()
    told = float((image.duration or 0) * (image.time_base or 0))
    last = Frame(
      time, time + _length(told, time - last.time if last else 0.0, usual), image, aspect
    )
    return last

  try:
    for image in _decoded(container, stream, file):
      expected = (last.end if last else 0.0) + len(times) * usual
      heapq.heappush(times, expected if image.time is None else image.time)
      images.append(image)
      if len(images) == REORDER:
        yield take()
  except ValueError as error:
    damage = error
  while images:
    yield take()
  if damage:
    raise damage


def _length(*seconds: float) -> float:
  """The first which can be a frame's: containers write 0, or a tick of their clock, for unknown."""
  return next(s for s in seconds if SLACK < s <= GAP)


def _decoded(container, stream, file: Source) -> Iterator[av.VideoFrame]:
  count = 0
  try:
    for image in container.decode(stream):
      yield image
      count += 1
  except (av.FFmpegError, ValueError) as error:
    at = f'after {count} frames' if count else 'no decodable frame'
    raise ValueError(_named(file, f'damaged, {at}: {_reason(error)}')) from error


def _sampled(frames: Iterator[Frame], fps: float | None, start: float) -> Iterator[Frame]:
  """The frame shown at each of `start + k / fps`, or all from `start` on."""
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


def _stored_shape(frame: Frame, size: int | None) -> tuple[int, int]:
  """Height and width of square pixels, of which the shorter is `size`, before turning upright."""
  height, width = frame.image.height, max(round(frame.image.width * frame.aspect), 1)
  if size:
    height, width = transforms.shorter_side(height, width, size)
  _require_pixels(None, height, width)
  return height, width


def _picture(image: av.VideoFrame, shape: tuple[int, int]) -> UInt8[np.ndarray, 'h w 3']:
  picture = transforms.resample(image.to_ndarray(format='rgb24')[None], *shape)[0]
  transposed, mirrored, upside_down = _orientation(image)
  picture = picture.swapaxes(0, 1) if transposed else picture
  return picture[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _orientation(image: av.VideoFrame) -> tuple[bool, bool, bool]:
  """Whether to swap the axes, then to mirror left and right, and top and bottom."""
  matrix = next((d for d in image.side_data if d.type == Type.DISPLAYMATRIX), None)
  if matrix is None:
    return False, False, False
  # Row by row, in fixed point: x' = a x + c y and y' = b x + d y, where y points down.
  a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32, count=5).tolist()
  return (True, c < 0, b < 0) if abs(b) > abs(a) else (False, a < 0, d < 0)


def _require_pixels(file: Source | None, height: int, width: int) -> None:
  if height * width > MAX_PIXELS:
    reason = f'frames of {width} x {height} pixels; at most {MAX_PIXELS} pixels are allowed'
    raise ValueError(_named(file, reason))


def _named(file: Source | None, reason: str) -> str:
  return f'{file}: {reason}' if isinstance(file, str | pathlib.Path) else reason


def _reason(error: Exception) -> str:
  return getattr(error, 'strerror', None) or str(error)
