"""A folder of videos as clips: what is read of each, what is left out and why, and its digest."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from core import files
from core.errors import UserError
from data.decode import pictures
from evaluation import index
from pipelines.jobs import INDEX

Pixels = UInt8[np.ndarray, 't h w 3']
T, U = TypeVar('T'), TypeVar('U')

EXTENSIONS = (
  '.3g2', '.3gp', '.apng', '.asf', '.avi', '.avif', '.divx', '.dv', '.f4v', '.flv', '.gif', '.gxf',
  '.h264', '.hevc', '.ivf', '.m1v', '.m2ts', '.m2v', '.m4v', '.mjpeg', '.mjpg', '.mkv', '.mov',
  '.mp4', '.mpeg', '.mpg', '.mts', '.mxf', '.npy', '.nut', '.ogg', '.ogm', '.ogv', '.qt', '.rm',
  '.rmvb', '.ts', '.vob', '.webm', '.webp', '.wmv', '.y4m',
)  # fmt: skip
WINDOWS = ('first', 'all')
OF_EACH = ('prompt', 'number')  # what an index says of one video, and not of what made it

# NumPy parses the header as Python, which before 3.11.8 and 3.12.2 counts the depth of its tree for
# all threads together: of two at once, one may end in a SystemError (python/cpython#106905).
_parsing = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Reading:
  """What of a video is a clip: so many frames, every `stride`-th of `fps` or as they are stored.

  frames: 0 is all there are.
  windows: the first such clip of a video, or all that follow each other without a frame in common,
    of which all of a video are in memory at once.
  ValueError for numbers that are no clip.
  """

  frames: int
  fps: float | None = None
  stride: int = 1
  windows: str = 'first'

  def __post_init__(self):
    if self.frames < 0 or self.stride < 1 or not (self.fps is None or self.fps > 0):
      raise UserError(
        f'Got {self.frames} frames, every {self.stride}. of {self.fps or "all"} a second; allowed '
        'are 1 or more, or 0 frames for all, and more than 0 a second.'
      )
    if self.windows not in WINDOWS:
      raise UserError(f'Got windows={self.windows!r}; allowed are {", ".join(WINDOWS)}.')

  @property
  def span(self) -> int:
    """Of how many frames a clip is; 1 or more."""
    return max((self.frames - 1) * self.stride + 1, 1)


@dataclasses.dataclass(frozen=True)
class Folder:
  """Videos in a folder, by the names of their files below it, in order."""

  path: pathlib.Path
  files: tuple[str, ...]

  def digest(self) -> str:
    """SHA-256 of all their names and contents."""
    total = hashlib.sha256()
    for file in self.files:
      with (self.path / file).open('rb') as opened:
        of_file = hashlib.file_digest(opened, 'sha256').hexdigest().encode()
        total.update(os.fsencode(file) + b'\0' + of_file + b'\n')
    return total.hexdigest()

  def prompts(self) -> dict[str, str]:
    """The prompt of each file; ValueError where one has none, and those of `some_prompts`."""
    found = self.some_prompts()
    if missing := [file for file in self.files if file not in found]:
      raise UserError(
        f'{self.path} has no prompt of {len(missing)} videos, as {missing[0]}; in {INDEX} there '
        'each has a line with file and prompt.'
      )
    return found

  def some_prompts(self) -> dict[str, str]:
    """The prompt of each file that has one, as `index.jsonl`, or else `captions.jsonl`, tells.

    ValueError where a line of it tells of none.
    """
    found = {file: index.prompt(line) for file, line in index.read(self.path, self.files).items()}
    return {file: found[file] for file in self.files if found.get(file, '').strip()}

  def made_by(self) -> dict[str, str]:
    """The model and the settings that made all of the files, where an index of ours tells."""
    try:
      lines = index.read(self.path, self.files)
    except ValueError:
      return {}  # it is somebody else's
    ours = [lines.get(file, {}) for file in self.files]
    same = {k: v for k, v in ours[0].items() if all(of.get(k) == v for of in ours)}
    return {k: str(v) for k, v in same.items() if k not in OF_EACH} if 'model' in same else {}


def open_folder(path: str | os.PathLike) -> Folder:
  """The videos below a folder, or behind links there; ValueError where there is none.

  Files are told by their extension, hidden ones are none; and those which an index has a line of,
  as `data.builder` reads them, are videos whatever their names.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    raise UserError(f'There is no folder {path}.')
  every = list(files.below(path))
  shown = (p for p in every if not any(part.startswith('.') for part in p.split('/')))
  found = {file for file in shown if pathlib.PurePath(file).suffix.lower() in EXTENSIONS}
  with contextlib.suppress(ValueError):  # of an index that is somebody else's
    found |= index.read(path, every).keys()
  if not found:
    raise UserError(f'{path} has no video; allowed are {", ".join(EXTENSIONS)}.')
  return Folder(path, tuple(sorted(found)))


def read(path: pathlib.Path, reading: Reading) -> Iterator[Pixels]:
  """The clips of a video, one or more.

  A `.npy` is taken to have the frames a second that are asked for.  ValueError where there are too
  few frames, or damage before the end of what is asked for.
  """
  is_array = path.suffix.lower() == '.npy'
  frames = _array(path) if is_array else pictures(path, fps=reading.fps)
  frames, wanted, given = iter(frames), reading.frames or 1, 0
  stop = reading.span if reading.frames else None
  while len(taken := list(itertools.islice(frames, 0, stop, reading.stride))) >= wanted:
    yield np.stack(taken)
    given += 1
    if reading.windows == 'first':
      return
  if not given:
    raise UserError(f'{path} ends early: {len(taken)} of {wanted} frames.')


def clips(
  folder: Folder,
  reading: Reading,
  prepare: Callable[[Pixels], T],
  *,
  skip: Callable[[str, str], None],
  count: int | None = None,
  seed: int = 0,
) -> Iterator[tuple[str, T]]:
  """What `prepare` makes of each clip, with its file; read and made ahead, a few at a time.

  count: of clips, from videos in an order drawn by the seed; all by default, in that of names.
  skip: is told of each video that can't be read, or is too short, and why.

  ValueError, at the end, where there are fewer.
  """
  order, given, skipped = list(folder.files), 0, []
  if count is not None:
    order = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]

  def load(file):
    try:
      return file, [prepare(clip) for clip in read(folder.path / file, reading)], ''
    except ValueError as error:
      return file, [], str(error)

  for file, made, reason in ahead(load, order):
    if reason:
      skipped.append(reason)
      skip(file, reason)
    for one in made[: None if count is None else count - given]:
      yield file, one
      given += 1
    if given == count:
      return
  if not given or (count and given < count):
    asked = f'{count} are asked for' if count else 'there is none to score'
    of = f'of {reading.frames} frames, ' if reading.frames else ''
    why = f'  {len(skipped)} videos are of no use, as: {skipped[0]}' if skipped else ''
    raise UserError(f'{folder.path} has {given} clips {of}and {asked}.{why}')


def ahead(function: Callable[[U], T], items: Iterable[U]) -> Iterator[T]:
  """`map(function, items)`, of which as many as there are processors are made before their turn."""
  workers = os.cpu_count() or 1
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    made = collections.deque()
    for item in items:
      made.append(pool.submit(function, item))
      if len(made) > workers:
        yield made.popleft().result()
    while made:
      yield made.popleft().result()


def batched(items: Iterable[tuple[str, np.ndarray]], size: int) -> Iterator[np.ndarray]:
  """What `clips` gives, stacked by so many; the last may be fewer."""
  held = []
  for _, item in items:
    held.append(item)
    if len(held) == size:
      yield np.stack(held)
      held = []
  if held:
    yield np.stack(held)


def _array(path) -> Pixels:
  try:
    with _parsing:
      video = np.lib.format.open_memmap(path, mode='r')
  except SystemError:
    raise  # it is Python's, not the file's
  except Exception as error:  # NumPy raises whatever the header makes it
    raise UserError(f'{path} is no array: {error}.') from error
  if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or not video.size:
    raise UserError(f'{path} is {video.dtype} {video.shape}; allowed is uint8 t h w 3.')
  return video
