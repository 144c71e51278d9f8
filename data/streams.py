"""The video stream of a file, and its frames up to the first sign of damage.

Decoders do not stop at damage: they conceal lost parts, and decode later frames from them.  They
report damage in three ways, all of which are checked here: by an error, by a flag on the frame, and
by a log message, which is the only sign from some of them (GIF, and FFV1 for a wrong checksum).
docs/videos.md lists which damage is detected for each codec.
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

# Messages are captured while packets are decoded.  Others are hidden, since errors are raised.
av.logging.set_level(av.logging.ERROR)
av.logging.set_skip_repeated(False)
logging.getLogger('libav').setLevel(logging.CRITICAL + 1)

REORDER = 16  # a decoder returns a frame at most this many packets after its own
MICROSECONDS = 1_000_000  # in a second; a container's times are in microseconds
REMEMBERED = 1024  # packets whose times are kept; decoders buffer fewer
# Decoders that flag damaged frames.  Their messages may be harmless, except those about a missing
# reference, which the decoder of H.264 does not flag.
FLAGGING = ('flv', 'h263', 'h263p', 'h264', 'mpeg1video', 'mpeg2video', 'mpeg4')
# A file of HMDB51 has metadata that is not UTF-8.  PyAV 19 reads any bytes, without this option.
_METADATA = {'metadata_errors': 'ignore'} if int(av.__version__.split('.')[0]) < 19 else {}
COVERS = Disposition.attached_pic | Disposition.timed_thumbnails


@contextlib.contextmanager
def opened(file: Source, max_pixels: int) -> Iterator[tuple[av.container.InputContainer, object]]:
  """The container, and the video stream that FFmpeg considers the best.

  FFmpeg prefers streams that are marked as default, then streams of more than one frame (the
  sequence of an animated AVIF to its still picture), then the highest bit rate.  Cover pictures are
  ignored.

  ValueError, without the file's name, if the file can't be opened, has no video stream, has one
  that can't be decoded, or has frames of more than `max_pixels`.
  """
  source = io.BytesIO(file) if isinstance(file, bytes) else str(file)
  try:
    # Some formats refer to further files; only local ones are read.
    container = av.open(source, options={'protocol_whitelist': 'file'}, **_METADATA)
  except (av.FFmpegError, OSError) as error:
    raise UserError(f'cannot be opened: {reason(error)}') from error
  with container:
    stream = _best(container)
    codec = stream.codec_context
    if codec is None:
      raise UserError('no decoder for its video stream')
    require_pixels(codec.width, codec.height, max_pixels)
    # Frames may be larger than the header says, so FFmpeg checks each before it allocates memory.
    # Checksums are verified if a stream has them.
    codec.options = {'max_pixels': str(max_pixels), 'err_detect': 'crccheck'}
    codec.thread_count = 1  # a loader has one process for each file that is decoded
    yield container, stream


def require_pixels(width: int, height: int, max_pixels: int) -> None:
  """Raises ValueError if a frame of this size has more than `max_pixels`."""
  if width * height > max_pixels:
    raise UserError(f'frames of {width} x {height} pixels; at most {max_pixels} are allowed')


def _best(container):
  videos = [s for s in container.streams.video if not s.disposition & COVERS]
  if not videos:
    raise UserError('no video stream')
  best = container.streams.best('video')
  stream = next((s for s in videos if best and s.index == best.index), videos[0])
  if _is_gray(stream):  # an AVIF has its alpha as a second stream of the same size and length
    shape = lambda s: (s.codec_context.height, s.codec_context.width, s.frames)
    same = (s for s in videos if s.codec_context and shape(s) == shape(stream))
    return next((s for s in same if not _is_gray(s)), stream)
  return stream


def _is_gray(stream) -> bool:
  return bool(stream.codec_context) and (stream.codec_context.pix_fmt or '').startswith('gray')


def stated_end(container, stream) -> float | None:
  """The presentation time, in seconds, at which the container says that the video ends.

  None if it does not say so, or only repeats the times of the frames.
  """
  if container.format.flags & Flags.ts_discont.value:
    return None
  if stream.duration is not None:
    return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
  if container.duration is not None:
    return (container.duration + (container.start_time or 0)) / MICROSECONDS
  return None


def leading_packets(file: Source, max_pixels: int) -> int:
  """The number of packets before the first key frame; 0 if there is no key frame."""
  with opened(file, max_pixels) as (container, stream):
    if stream.codec_context.name == 'h264':  # its decoder can also start at other frames
      return 0
    packets = (packet for packet in container.demux(stream) if packet.size)
    return next((i for i, packet in enumerate(packets) if packet.is_keyframe), 0)


def intact(container, stream, leading: Callable[[], int]) -> Iterator[av.VideoFrame]:
  """The frames in order of presentation, up to the first that is damaged or decoded from damage.

  leading: returns the number of packets to skip if the first is not of a key frame.

  ValueError, raised after the last good frame, says how the damage was detected.
  """
  damage, count, waiting = _END, 0, collections.deque()
  for frame in itertools.chain(_numbered(container, stream, leading), [_END]):
    if frame.fault and frame.number < damage.number:
      damage = frame
    if frame.image:
      waiting.append(frame)
    # A frame may be shown before a frame that is decoded earlier but reported as damaged later.
    while waiting and waiting[0].number < frame.complete and not _follows(waiting[0], damage):
      yield waiting.popleft().image
      count += 1
    if waiting and _follows(waiting[0], damage):
      break
  if damage.fault:
    where = f'after {count} frames' if count else 'no decodable frame'
    raise UserError(f'damaged, {where}: {damage.fault}')


def reason(error: Exception) -> str:
  """The message of an FFmpeg error, without its number and the file's name."""
  return getattr(error, 'strerror', None) or str(error)


@dataclasses.dataclass(frozen=True)
class _Step:
  """The result of decoding one packet."""

  number: int  # of the packet, in order of decoding
  pts: int | None = None  # of the packet
  images: Sequence[tuple[int, av.VideoFrame]] = ()  # each with the number of its own packet
  messages: tuple[str, ...] = ()  # log messages of the decoder
  fault: str | None = None  # the sign of damage, if there is one
  flush: bool = False  # whether this is the flush at the end instead of a packet


@dataclasses.dataclass(frozen=True)
class _Frame:
  """A decoded frame, or the sign of damage in a frame, or both."""

  number: int | float  # of its packet
  pts: int | None
  image: av.VideoFrame | None
  fault: str | None
  complete: int | float  # all frames of packets below this number are decoded or lost


_END = _Frame(math.inf, None, None, None, math.inf)


def _follows(frame: _Frame, damage: _Frame) -> bool:
  """Whether a frame is decoded or shown after the first damaged one."""
  lost = damage.pts is not None and frame.pts is not None and frame.pts >= damage.pts
  return lost or frame.number >= damage.number


def _numbered(container, stream, leading) -> Iterator[_Frame]:
  """The frames in order of presentation, and the signs of damage."""
  codec, decoded, complete = stream.codec_context, set(), 0
  for step in _with_faults(_steps(container, stream, leading), codec.name):
    if step.fault:
      yield _Frame(step.number, step.pts, None, step.fault, complete)
    for number, image in step.images:
      decoded.add(number)
      complete = max(complete, step.number - REORDER)
      while complete in decoded:
        complete += 1
      decoded = {n for n in decoded if n > complete}
      fault = 'the decoder flags a frame as corrupt' if image.is_corrupt else None
      certain = complete if codec.has_b_frames else math.inf
      yield _Frame(number, image.pts, image, fault, certain)


def _with_faults(steps: Iterator[_Step], codec: str) -> Iterator[_Step]:
  """The steps, with a fault where the decoder's messages report damage.

  If there are messages for both of the first two packets, or for the only one, messages are
  ignored: they are about how the whole stream is encoded, or where it begins.
  """
  head = list(itertools.islice(steps, 2))
  always = all(step.messages or step.flush for step in head)
  for step in itertools.chain(head, steps):
    reports = [m for m in step.messages if codec not in FLAGGING or 'reference picture' in m]
    if reports and not always and not step.fault:
      step = dataclasses.replace(step, fault=f'{codec}: {reports[0]}')
    yield step


def _steps(container, stream, leading) -> Iterator[_Step]:
  """The result of decoding each packet, up to the first error.

  Packets before the first key frame are skipped: decoders silently drop their frames, which refer
  to frames that are not in the file.
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
        # The number of the packet replaces its time, so that the frame says which packet it is of.
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
    messages = tuple(text.strip() for *_, text in logs) if logs else ()
    yield _Step(number, times.get(number), images, messages, fault, flush=not packet.size)


def _fault_of(packet) -> str | None:
  """The sign of damage that the container gives for a packet."""
  if packet.has_sidedata('encryption_info'):
    return 'encrypted'
  return 'a packet is incomplete' if packet.is_corrupt else None
