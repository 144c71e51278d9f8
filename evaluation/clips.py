"""Clips of videos: which frames are read, and all clips of a folder, read ahead in threads."""

import collections
import concurrent.futures
import dataclasses
import itertools
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from core import processors
from core.errors import UserError
from data.decode import pictures
from evaluation.folder import Folder

Pixels = UInt8[np.ndarray, 't h w 3']
T, U = TypeVar('T'), TypeVar('U')

WINDOWS = ('first', 'all')

# NumPy parses the header as Python, and before 3.11.8 and 3.12.2 Python counts the depth of a
# syntax tree for all threads together, so that one of two may end in a SystemError
# (python/cpython#106905).
_header_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Reading:
  """Which frames of a video are a clip.

  frames: the length of a clip; 0 is all frames of the video.
  fps: the frame rate at which the video is read; None reads the frames as they are stored.
  stride: a clip has every `stride`-th frame of these.
  windows: 'first' reads the first clip of a video; 'all' reads consecutive clips without common
    frames, all of which are in memory at once.
  UserError for values that are not allowed.
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
    """The number of frames from the first to the last of a clip; 1 or more."""
    return max((self.frames - 1) * self.stride + 1, 1)


def read(path: pathlib.Path, reading: Reading) -> Iterator[Pixels]:
  """The clips of a video, one or more.

  A `.npy` is assumed to have the frame rate of the reading.  UserError where there are too few
  frames, or where the file is damaged before the end of what is read.
  """
  is_array = path.suffix.lower() == '.npy'
  frames = iter(_open_array(path) if is_array else pictures(path, fps=reading.fps))
  needed, count = reading.frames or 1, 0
  stop = reading.span if reading.frames else None
  while len(clip := list(itertools.islice(frames, 0, stop, reading.stride))) >= needed:
    yield np.stack(clip)
    count += 1
    if reading.windows == 'first':
      return
  if not count:
    raise UserError(f'{path} ends early: {len(clip)} of {needed} frames.')


def clips(
  folder: Folder,
  reading: Reading,
  prepare: Callable[[Pixels], T],
  *,
  skip: Callable[[str, str], None],
  count: int | None = None,
  seed: int = 0,
) -> Iterator[tuple[str, T]]:
  """The file and `prepare(clip)` of each clip, read and prepared a few videos ahead.

  count: how many clips are read, from videos in an order drawn by the seed; by default all clips
    are read, in the order of the names.
  skip: is called as `skip(file, reason)` for each video that is unreadable or too short.

  UserError, at the end, where there are fewer clips than `count`, or none.
  """
  order, given, reasons = list(folder.files), 0, []
  if count is not None:
    order = [order[i] for i in np.random.default_rng(seed).permutation(len(order))]

  def load(file):
    try:
      return file, [prepare(clip) for clip in read(folder.path / file, reading)], ''
    except ValueError as error:
      return file, [], str(error)

  for file, prepared, reason in map_ahead(load, order):
    if reason:
      reasons.append(reason)
      skip(file, reason)
    for item in prepared[: None if count is None else count - given]:
      yield file, item
      given += 1
    if given == count:
      return
  if not given or (count and given < count):
    wanted = f'{count} are asked for' if count else 'there is none to score'
    length = f'of {reading.frames} frames, ' if reading.frames else ''
    why = f'  {len(reasons)} videos are of no use, as: {reasons[0]}' if reasons else ''
    raise UserError(f'{folder.path} has {given} clips {length}and {wanted}.{why}')


def map_ahead(function: Callable[[U], T], items: Iterable[U]) -> Iterator[T]:
  """`map(function, items)` in threads, computed ahead by as many items as processors."""
  workers = processors.available()
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    pending = collections.deque()
    for item in items:
      pending.append(pool.submit(function, item))
      if len(pending) > workers:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()


def batched(items: Iterable[tuple[str, np.ndarray]], size: int) -> Iterator[np.ndarray]:
  """The items of `clips`, stacked into batches of this size; the last may be smaller."""
  arrays = (item for _, item in items)
  while batch := list(itertools.islice(arrays, size)):
    yield np.stack(batch)


def _open_array(path) -> Pixels:
  try:
    with _header_lock:
      video = np.lib.format.open_memmap(path, mode='r')
  except SystemError:
    raise  # a defect of Python, not of the file
  except Exception as error:  # NumPy raises many kinds of errors for a damaged header
    raise UserError(f'{path} is no array: {error}.') from error
  if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or not video.size:
    raise UserError(f'{path} is {video.dtype} {video.shape}; allowed is uint8 t h w 3.')
  return video
