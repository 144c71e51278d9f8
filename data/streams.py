"""The video stream of a file, and its frames for as long as they are what was encoded.

Decoders go on where a file is damaged: they fill in what is lost and build what follows upon it.
They say so in three ways, all of which are heard here: by an error, by a flag on the frame, and by
a message, which is all that some do (FFV1 whose checksum is wrong, GIF).  docs/videos.md has what
of the damage to each codec is noticed.
"""

import collections
import contextlib
import dataclasses
import io
import itertools
import logging
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence

import av
from av.format import Flags
from av.stream import Disposition

from core.errors import UserError

Source = str | pathlib.Path | bytes  # a path, or a file's contents

# Messages are captured where packets are decoded.  Elsewhere nobody reads them: errors are raised.
av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)
logging.getLogger('libav').setLevel(logging.CRITICAL + 1)

REORDER = 16  # packets after its own with which a frame comes out at the latest
MICROSECONDS = 1_000_000  # in a second; the unit of a container's times
REMEMBERED = 1024  # packets whose times are known, which are more than decoders hold back
# Decoders that flag damaged frames.  What they say besides may be of no consequence, except that a
# reference is missing, which the one of H.264 does not flag.
FLAGGING = ('flv', 'h263', 'h263p', 'h264', 'mpeg1video', 'mpeg2video', 'mpeg4')
COVERS = Disposition.attached_pic | Disposition.timed_thumbnails


@contextlib.contextmanager
def opened(file: Source, max_pixels: int) -> Iterator[tuple[av.container.InputContainer, object]]:
  """The container, and the stream that FFmpeg takes for the best of its video streams.

  FFmpeg prefers streams that are marked as default, then streams of more than one frame (the
  sequence of an animated AVIF to its still picture), then the highest bit rate.  Cover pictures are
  ignored.

  ValueError, without the file's name, if the file can't be opened, has no video stream, has one
  that can't be decoded, or has frames of more than `max_pixels`.
  """
  source = io.BytesIO(file) if isinstance(file, bytes) else str(file)
  try:
    # One of HMDB51's files has metadata which is no UTF-8; some formats name further files.
    container = av.open(source, metadata_errors='ignore', options={'protocol_whitelist': 'file'})
  except (av.FFmpegError, OSError) as error:
    raise UserError(f'cannot be opened: {reason(error)}') from error
  with container:
    stream = _best(container)
    codec = stream.codec_context
    if codec is None:
      raise UserError('no decoder for its video stream')
    require_pixels(codec.width, codec.height, max_pixels)
    # The frames may be larger than the header told: FFmpeg looks at each before it allocates it.
    # Checksums are compared where a stream has them.
    codec.options = {'max_pixels': str(max_pixels), 'err_detect': 'crccheck'}
    codec.thread_count = 1  # loaders decode one file in each of their workers
    yield container, stream


def require_pixels(width: int, height: int, most: int) -> None:
  """Raises ValueError where frames have more pixels than that."""
  if width * height > most:
    raise UserError(f'frames of {width} x {height} pixels; at most {most} pixels are allowed')


def _best(container):
  videos = [s for s in container.streams.video if not s.disposition & COVERS]
  if not videos:
    raise UserError('no video stream')
  best = container.streams.best('video')
  stream = next((s for s in videos if best and s.index == best.index), videos[0])
  if _is_gray(stream):  # it may be the alpha of an AVIF, which is a stream like that of its colours
    like = lambda s: (s.codec_context.height, s.codec_context.width, s.frames)
    alike = (s for s in videos if s.codec_context and like(s) == like(stream))
    return next((s for s in alike if not _is_gray(s)), stream)
  return stream


def _is_gray(stream) -> bool:
  return bool(stream.codec_context) and (stream.codec_context.pix_fmt or '').startswith('gray')


def stated_end(container, stream) -> float | None:
  """The presentation time, in seconds, at which the container says that the video ends.

  None where it does not say, or only repeats the times of the frames.
  """
  if container.format.flags & Flags.ts_discont.value:
    return None
  if stream.duration is not None:
    return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
  if container.duration is not None:
    return (container.duration + (container.start_time or 0)) / MICROSECONDS
  return None


def leading_packets(file: Source, max_pixels: int) -> int:
  """The number of packets before the first one of a key frame; 0 where there is none at all."""
  with opened(file, max_pixels) as (container, stream):
    if stream.codec_context.name == 'h264':  # its decoder finds other places to begin at
      return 0
    packets = (packet for packet in container.demux(stream) if packet.size)
    return next((i for i, packet in enumerate(packets) if packet.is_keyframe), 0)


def intact(container, stream, leading: Callable[[], int]) -> Iterator[av.VideoFrame]:
  """The frames in order of presentation, up to the first that is damaged or built upon damage.

  leading: gives the number of packets to leave out if the first is not of a key frame.

  ValueError, which says how the damage was detected, after the last frame before the damage.
  """
  damage, count, held = _END, 0, collections.deque()
  for frame in itertools.chain(_numbered(container, stream, leading), [_END]):
    if frame.fault and frame.number < damage.number:
      damage = frame
    if frame.image:
      held.append(frame)
    # A frame may be shown before one that is decoded earlier, and that is found damaged later.
    while held and held[0].number < frame.complete and not _follows(held[0], damage):
      yield held.popleft().image
      count += 1
    if held and _follows(held[0], damage):
      break
  if damage.fault:
    at = f'after {count} frames' if count else 'no decodable frame'
    raise UserError(f'damaged, {at}: {damage.fault}')


def reason(error: Exception) -> str:
  """What an error of FFmpeg tells, without its number and without the file."""
  return getattr(error, 'strerror', None) or str(error)


@dataclasses.dataclass(frozen=True)
class _Step:
  """What came of decoding one packet."""

  number: int  # of the packet, in order of decoding
  pts: int | None = None  # of the packet
  images: Sequence[tuple[int, av.VideoFrame]] = ()  # each with the number of its own packet
  messages: tuple[str, ...] = ()  # what the decoder said meanwhile
  fault: str | None = None  # why what the packet gives can't be trusted
  flush: bool = False  # it is the end, and no packet


@dataclasses.dataclass(frozen=True)
class _Frame:
  """A frame as it comes from the decoder, or what is wrong with one, or both."""

  number: int | float  # of its packet
  pts: int | None
  image: av.VideoFrame | None
  fault: str | None
  complete: int | float  # all frames of packets below this number have come, or never will


_END = _Frame(math.inf, None, None, None, math.inf)


def _follows(frame: _Frame, damage: _Frame) -> bool:
  """Whether a frame is decoded after the damage began, or shown after what is lost by it."""
  lost = damage.pts is not None and frame.pts is not None and frame.pts >= damage.pts
  return lost or frame.number >= damage.number


def _numbered(container, stream, leading) -> Iterator[_Frame]:
  """The frames in order of presentation, with all that is found wrong."""
  codec, came, complete = stream.codec_context, set(), 0
  for step in _judged(_steps(container, stream, leading), codec.name):
    if step.fault:
      yield _Frame(step.number, step.pts, None, step.fault, complete)
    for number, image in step.images:
      came.add(number)
      complete = max(complete, step.number - REORDER)
      while complete in came:
        complete += 1
      came = {n for n in came if n > complete}
      fault = 'the decoder flags a frame as corrupt' if image.is_corrupt else None
      reach = complete if codec.has_b_frames else math.inf
      yield _Frame(number, image.pts, image, fault, reach)


def _judged(steps: Iterator[_Step], codec: str) -> Iterator[_Step]:
  """The steps, of which each has a fault if the decoder said that there is damage.

  A decoder that complains of the first two packets, or of the only one, tells of no damage: it
  complains of how the whole stream is written, or of where it begins.
  """
  head = list(itertools.islice(steps, 2))
  always = all(step.messages or step.flush for step in head)
  for step in itertools.chain(head, steps):
    telling = [m for m in step.messages if codec not in FLAGGING or 'reference picture' in m]
    if telling and not always and not step.fault:
      step = dataclasses.replace(step, fault=f'{codec}: {telling[0]}')
    yield step


def _steps(container, stream, leading) -> Iterator[_Step]:
  """What comes of each packet, up to the first error.

  Frames that are shown before a first key frame, and refer to what is not in the file, decoders
  leave out without a word.
  """
  packets, times, skip = container.demux(stream), {}, None
  for number in itertools.count():
    fault = None
    try:
      packet = next(packets, None)
      if packet is None:
        return
      if skip is None:
        skip = 0 if packet.is_keyframe else leading()
      if packet.size and number < skip:
        continue
      if packet.size:
        fault = _fault_of(packet)
        # A frame gets the time of its packet, by which it is known whose it is.
        times[number], packet.pts = packet.pts, number
        times.pop(number - REMEMBERED, None)
      with av.logging.Capture() as logs:
        decoded = packet.decode()
    except (av.FFmpegError, ValueError) as error:
      yield _Step(number, times.get(number), fault=fault or reason(error))
      return
    images = []
    for image in decoded:
      own = number if image.pts is None else image.pts
      image.pts = times.get(own)
      images.append((own, image))
    messages = tuple(text.strip() for *_, text in logs)
    yield _Step(number, times.get(number), images, messages, fault, flush=not packet.size)


def _fault_of(packet) -> str | None:
  """What the container says against a packet."""
  if packet.has_sidedata('encryption_info'):
    return 'encrypted'
  return 'a packet is incomplete' if packet.is_corrupt else None
