"""A folder of videos as clips: what is read of each, what is left out and why, and its digest."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from data.decode import decode
from pipelines.jobs import INDEX

Pixels = UInt8[np.ndarray, 't h w 3']
T, U = TypeVar('T'), TypeVar('U')

EXTENSIONS = (
  '.avi', '.flv', '.gif', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.npy', '.ogv', '.webm',
  '.wmv',
)  # fmt: skip
WINDOWS = ('first', 'all')
INDICES = (INDEX, 'captions.jsonl')  # of what the prompt of each video is read


@dataclasses.dataclass(frozen=True)
class Reading:
  """What of a video is a clip: so many frames, every `stride`-th of `fps` or as they are stored.

  frames: 0 is all there are.
  windows: the first such clip of a video, or all that follow each other without a frame in common.
  ValueError for numbers that are no clip.
  """

  frames: int
  fps: float | None = None
  stride: int = 1
  windows: str = 'first'

  def __post_init__(self):
    if self.frames < 0 or self.stride < 1 or not (self.fps is None or self.fps > 0):
      raise ValueError(
        f'Got {self.frames} frames, every {self.stride}. of {self.fps or "all"} a second; allowed '
        'are 1 or more, or 0 frames for all, and more than 0 a second.'
      )
    if self.windows not in WINDOWS:
      raise ValueError(f'Got windows={self.windows!r}; allowed are {", ".join(WINDOWS)}.')


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
        total.update(f'{file}\0{hashlib.file_digest(opened, "sha256").hexdigest()}\n'.encode())
    return total.hexdigest()

  def prompts(self) -> dict[str, str]:
    """The prompt of each file; ValueError where one has none, and those of `some_prompts`."""
    found = self.some_prompts()
    if missing := [file for file in self.files if file not in found]:
      raise ValueError(
        f'{self.path} has no prompt of {len(missing)} videos, as {missing[0]}; in {INDEX} there '
        'each has a line with file and prompt.'
      )
    return found

  def some_prompts(self) -> dict[str, str]:
    """The prompt of each file that has one, as `index.jsonl`, or else `captions.jsonl`, tells.

    ValueError where a line of it tells of none.
    """
    path = next((p for name in INDICES if (p := self.path / name).is_file()), None)
    lines = enumerate(path.read_text('utf-8').splitlines() if path else [], 1)
    found = dict(_entry(line, f'{path}, line {n}') for n, line in lines if line.strip())
    return {file: found[file] for file in self.files if found.get(file, '').strip()}


def open_folder(path: str | os.PathLike) -> Folder:
  """The videos below a folder; ValueError where there is none.

  Files are told by their extension, and hidden ones are none.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    raise ValueError(f'There is no folder {path}.')
  found = (p.relative_to(path) for p in path.rglob('*') if p.suffix.lower() in EXTENSIONS)
  files = sorted(str(p) for p in found if not any(part.startswith('.') for part in p.parts))
  if not files:
    raise ValueError(f'{path} has no video; allowed are {", ".join(EXTENSIONS)}.')
  return Folder(path, tuple(files))


def read(path: pathlib.Path, reading: Reading) -> list[Pixels]:
  """The clips of a video, one or more; ValueError where it is damaged before or has too few frames.

  A `.npy` is taken to have the frames a second that are asked for.
  """
  span = max((reading.frames - 1) * reading.stride + 1, 1)
  first = reading.windows == 'first'
  if path.suffix == '.npy':
    video = _array(path)
  else:
    video = decode(path, fps=reading.fps, count=span if first and reading.frames else None)
  if len(video) < span:
    raise ValueError(f'{path} ends early: {len(video)} of {span} frames.')
  if not reading.frames:
    return [video[:: reading.stride]]
  starts = [0] if first else range(0, len(video) - span + 1, span)
  return [video[at : at + span : reading.stride] for at in starts]


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
  files, given = list(folder.files), 0
  if count is not None:
    files = [files[i] for i in np.random.default_rng(seed).permutation(len(files))]

  def load(file):
    try:
      return file, [prepare(clip) for clip in read(folder.path / file, reading)], ''
    except ValueError as error:
      return file, [], str(error)

  for file, made, reason in ahead(load, files):
    if reason:
      skip(file, reason)
    for one in made[: None if count is None else count - given]:
      yield file, one
      given += 1
    if given == count:
      return
  if not given or (count and given < count):
    asked = f'{count} are asked for' if count else 'there is none to score'
    of = f'of {reading.frames} frames, ' if reading.frames else ''
    raise ValueError(f'{folder.path} has {given} clips {of}and {asked}.')


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


def _entry(line: str, where: str) -> tuple[str, str]:
  try:
    fields = json.loads(line)
    return fields['file'], str(fields['prompt'] if 'prompt' in fields else fields['caption'])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{where}: allowed is a JSON object with file and prompt.') from error


def _array(path) -> Pixels:
  try:
    video = np.load(path, mmap_mode='r')
  except (ValueError, EOFError) as error:
    raise ValueError(f'{path} is no array: {error}.') from error
  if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8:
    raise ValueError(f'{path} is {video.dtype} {video.shape}; allowed is uint8 t h w 3.')
  return video
