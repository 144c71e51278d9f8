"""What becomes of one source file: the clips that are cut from it, scored, filtered and stored.

An image is a clip of one frame and of 0 seconds.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import pathlib
import tempfile

from core import video
from core.errors import UserError
from data import decode, filters, pictures, processes, scenes, trace

MAX_BYTES = 2**30  # of a record; its format allows at most twice that
MAX_FPS = 240  # the frame rate of fast cameras


@dataclasses.dataclass(frozen=True)
class Options:
  """How files are cut into clips, and which are stored how.

  ValueError if a number is outside of its range.
  """

  fps: float = 16.0  # of the frames that are counted, scored and, in clips that are cut, stored
  seconds: float = 0.0  # the length of a clip; 0 makes one clip of each file
  cut_threshold: float = scenes.THRESHOLD  # see `scenes.cuts`
  min_frames: int = 80  # at `fps`, of clips of videos
  min_side: int = 0  # pixels
  store_side: int = 0  # the shorter side to which larger clips are reduced; 0 keeps their size
  crf: int = 15  # the quality of clips that are encoded again: see `video.encode_mp4`
  file_seconds: float = 3600.0  # that a file may take; see `processes.results`
  limits: filters.Limits = filters.Limits()  # noqa: RUF009  # it is frozen

  def __post_init__(self):
    for name in ('cut_threshold', 'file_seconds', 'fps', 'min_frames'):
      if not 0 < (value := getattr(self, name)) < float('inf'):
        raise UserError(f'Got --{name}={value:g}; more than 0 is allowed.')
    for name in ('min_side', 'seconds', 'store_side'):
      if not 0 <= (value := getattr(self, name)) < float('inf'):
        raise UserError(f'Got --{name}={value:g}; 0 or more is allowed.')
    if self.fps > MAX_FPS:
      raise UserError(f'Got --fps={self.fps:g}; at most {MAX_FPS} is allowed.')
    if not 0 <= self.crf <= 51:
      raise UserError(f'Got --crf={self.crf}; allowed is 0 to 51.')
    if 0 < self.seconds < self.min_frames / self.fps - 1e-9:
      raise UserError(
        f'Got --seconds={self.seconds:g} and --min_frames={self.min_frames} at --fps={self.fps:g}; '
        f'clips of {self.seconds:g} seconds have at most {self.frames} frames.'
      )

  @property
  def frames(self) -> int:
    """The number of frames of a clip of `seconds`."""
    return round(self.seconds * self.fps)


@dataclasses.dataclass(frozen=True)
class Stored:
  """The place of an encoded clip in a file of several."""

  path: str
  offset: int
  size: int

  def read(self) -> bytes:
    """The clip's bytes."""
    with open(self.path, 'rb') as file:
      file.seek(self.offset)
      return file.read(self.size)


@dataclasses.dataclass(frozen=True)
class Segment:
  """A part of a file: a clip, or what is left out and why."""

  start: float  # seconds from the first frame of the file
  end: float
  whole: bool  # whether it is all of the file
  frames: int  # as it is stored; of a part that is left out, at `Options.fps`
  height: int  # as it is stored, upright with square pixels
  width: int
  scores: filters.Scores | None = None
  fault: tuple[str, str] | None = None  # the kind and the reason why it is left out
  encoded: bytes | Stored | None = None  # None if the file itself is stored

  @property
  def is_image(self) -> bool:
    """Whether it is an image, which has no length."""
    return self.start == self.end


@dataclasses.dataclass(frozen=True)
class Source:
  """A file that was decoded, and its segments in order of time."""

  contents: str  # a digest of its bytes
  damage: str | None  # why decoding stopped before the end of the file
  segments: tuple[Segment, ...]


def process(
  path: pathlib.Path, options: Options, temporary: pathlib.Path | None = None
) -> Source | str:
  """The file's clips, or the reason why it can't be decoded.

  temporary: a folder for files that a process leaves if it is killed; None is that of the system.
  """
  try:
    facts, traced = trace.follow(path, options.fps)
    if facts.frames == 1 and not facts.fault and pictures.is_image(path):
      facts = dataclasses.replace(facts, seconds=0.0)
    with path.open('rb') as file:
      contents = hashlib.file_digest(file, 'sha256').hexdigest()
    cuts = scenes.cuts(traced, options.cut_threshold) if options.seconds else []
    spans = divide(facts.seconds, cuts, options)
    parts = tuple(_segment(path, facts, traced, *span, options, temporary) for span in spans)
    return Source(contents, _unnamed(facts.fault, path), parts)
  except (ValueError, OSError) as error:
    return _unnamed(str(error), path)
  except MemoryError:  # `processes` limits it
    return f'decoding it takes more than {processes.MEMORY / 2**30:g} GiB of memory'


def divide(seconds: float, cuts: list[float], options: Options) -> list[tuple[float, float]]:
  """The spans in seconds of the clips of a video, each within one scene.

  A scene is divided into clips of `options.seconds` from its beginning on, and the last one is what
  remains.  A video without cuts that is at most as long as a clip is one, and so is an image.
  """
  if not options.seconds or not seconds:
    return [(0.0, seconds)]
  spans = []
  for start, end in itertools.pairwise([0.0, *cuts, seconds]):
    count = decode.available(end - start, options.fps)
    for k in range(0, count, options.frames):
      first = start + k / options.fps
      more = count - k > options.frames
      spans.append((first, first + options.frames / options.fps if more else end))
  return spans


def _segment(path, facts, traced, start, end, options, temporary) -> Segment:
  image = not facts.seconds
  count = 1 if image else decode.available(end - start, options.fps)
  whole = (start, end) == (0.0, facts.seconds)
  segment = Segment(start, end, whole, count, facts.height, facts.width)
  if count < options.min_frames and not image:
    reason = f'{count} frames at {options.fps:g} a second; at least {options.min_frames} are needed'
    return dataclasses.replace(segment, fault=(filters.SHORT, reason))
  if min(facts.height, facts.width) < options.min_side:
    size = f'{facts.width} x {facts.height} pixels'
    reason = f'{size}; at least {options.min_side} are needed on each side'
    return dataclasses.replace(segment, fault=(filters.SMALL, reason))
  scores = (
    filters.image_scores(traced) if image else filters.scores(traced, options.fps, start, end)
  )
  segment = dataclasses.replace(segment, scores=scores, fault=filters.fault(scores, options.limits))
  if segment.fault:
    return segment
  shorter = min(facts.height, facts.width)
  side = options.store_side if 0 < options.store_side < shorter else None
  if whole and not side:
    if (size := path.stat().st_size) > MAX_BYTES:
      reason = f'{size} bytes; at most {MAX_BYTES} are allowed in a clip that is not cut'
      return dataclasses.replace(segment, fault=(filters.UNREADABLE, reason))
    return dataclasses.replace(segment, frames=facts.frames)
  return _encoded(path, segment, side, options, temporary)


def _encoded(path, segment: Segment, side: int | None, options: Options, temporary) -> Segment:
  """The segment with its frames at `options.fps` as MP4."""
  shapes = []

  def frames():
    shown = decode.pictures(path, fps=options.fps, start=segment.start, size=side)
    with contextlib.closing(shown):
      for frame in itertools.islice(shown, segment.frames):
        shapes.append(frame.shape)
        yield frame

  with tempfile.TemporaryDirectory(dir=temporary) as folder:
    file = pathlib.Path(folder, 'clip.mp4')
    video.encode_mp4(file, frames(), fps=options.fps, crf=options.crf)
    encoded = file.read_bytes()
  if len(shapes) != segment.frames:  # the file was decoded up to there before
    raise UserError(f'{len(shapes)} of {segment.frames} frames from {segment.start:g} s on')
  height, width = (n + n % 2 for n in shapes[0][:2])  # as H.264 has them
  return dataclasses.replace(segment, height=height, width=width, encoded=encoded)


def _unnamed(reason: str | None, path: pathlib.Path) -> str | None:
  """The reason without the path, which `decode` adds to it."""
  return reason and reason.removeprefix(f'{path}: ')
