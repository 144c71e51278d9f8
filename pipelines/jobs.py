"""The videos that a command makes: their prompts and their files."""

import contextlib
import dataclasses
import json
import pathlib
import re
import time
from collections.abc import Iterator, Sequence

import jax

from core import capacity, files, unicode, video, writable
from core.condition import Condition
from core.errors import UserError, UserFileError
from core.folder import new_file
from diffusion.sampling import InitialVideo
from pipelines.pipeline import Pipeline

INDEX = 'index.jsonl'
LETTERS, BYTES = 60, 180  # of a prompt in the name of a file, which may have 255 bytes in all


@dataclasses.dataclass(frozen=True)
class Job:
  """A video to make: its prompt, its number among the videos of the prompt, and its file."""

  prompt: str
  number: int
  path: pathlib.Path
  xt_slice: pathlib.Path | None = None

  def write(self, pixels: video.Pixels, *, fps: float, upscale: int, made_by: dict) -> None:
    """Writes the video and its X-T slice with their metadata.

    upscale: the side of the square that each pixel becomes.
    """
    self.path.parent.mkdir(exist_ok=True)
    metadata = self.metadata(made_by)
    video.write(self.path, pixels, fps=fps, metadata=metadata, upscale=upscale)
    if self.xt_slice:
      image = video.xt_slice(pixels)[None]
      video.write(self.xt_slice, image, metadata=metadata, upscale=upscale)

  def metadata(self, made_by: dict) -> dict[str, str]:
    """The metadata of the video, as texts."""
    facts = {'prompt': self.prompt, 'number': self.number, **made_by}
    return {key: unicode.escaped(str(value)) for key, value in facts.items()}


def of_prompt(
  prompt: str, videos: int, output: pathlib.Path, xt_slice: pathlib.Path | None
) -> list[Job]:
  """A job for each of the `videos` of a prompt.

  UserError for a prompt that is blank, or no Unicode text.
  """
  if not prompt.strip():
    raise UserError('The prompt is empty; allowed is any text that is not blank.')
  try:
    unicode.require(prompt)
  except ValueError as error:
    raise UserError(f'The prompt {error}; allowed is Unicode text.') from error
  outputs = [file for file in (output, xt_slice) if file is not None]
  if len({file.absolute() for file in outputs}) < len(outputs):
    raise UserError(f'Got {output} for the video and for its X-T slice; allowed are two files.')
  return [Job(prompt, i, *(_numbered(file, i, videos) for file in outputs)) for i in range(videos)]


def of_list(prompts: Sequence[str], videos: int, folder: pathlib.Path) -> list[Job]:
  """A job for each of the `videos` of every prompt.  UserError where the folder is a file."""
  if folder.suffix in video.EXTENSIONS or (folder.exists() and not folder.is_dir()):
    raise UserError(f'--output={folder} is a file; with --prompts_file a folder is allowed.')
  return [
    Job(prompt, n, _numbered(folder / f'{i:03}_{slug(prompt)}.mp4', n, videos))
    for i, prompt in enumerate(prompts)
    for n in range(videos)
  ]


def require_writable(jobs: Sequence[Job]) -> None:
  """Raises the errors of `video.check_writable` where one of the videos can't be written."""
  for job in jobs:
    for file in filter(None, (job.path, job.xt_slice)):
      video.check_writable(file)


def require_folder(jobs: Sequence[Job]) -> None:
  """The same for the folder of a list of prompts, which need not exist, and its index."""
  folder = jobs[0].path.parent
  with _made(folder):
    require_writable(jobs)
    writable.require_file(folder / INDEX)


def require_room(jobs: Sequence[Job], frames: int, size: tuple[int, int], upscale: int) -> None:
  """Raises ValueError, with what is allowed, where videos can't be written with every pixel as a
  square of the side `upscale`.

  frames, size: the number of frames of each video, and their h w.
  """
  sizes = {jobs[0].path: (frames, *size), jobs[0].xt_slice: (1, frames, size[1])}
  for path, (n, height, width) in sizes.items():
    if path and (reason := capacity.fault(path, n, upscale * height, upscale * width)):
      most = capacity.max_upscale(path, n, height, width, upscale)
      allowed = f'1 to {most}' if most else 'another format, or a smaller video'
      raise UserError(
        f'Got --upscale={upscale}, which makes {path} of {upscale * width}x{upscale * height} '
        f'pixels: {reason}; allowed is {allowed}.'
      )


def generate(
  jobs: Sequence[Job],
  pipeline: Pipeline,
  *,
  seed: int,
  condition: Condition = Condition(),  # noqa: B008
  initial_video: InitialVideo | None = None,
) -> Iterator[tuple[Job, video.Pixels]]:
  """Each job with its video, as they are generated, in all processes: see `Pipeline.generate`.

  The first process prints in the end how long that took.
  """
  prompts, numbers = [job.prompt for job in jobs], [job.number for job in jobs]
  inputs = dict(condition=condition, initial_video=initial_video)
  begin = time.perf_counter()
  try:
    videos = pipeline.generate(prompts, seed=seed, numbers=numbers, **inputs)
    compiled = time.perf_counter()
    yield from zip(jobs, videos)
  finally:
    pipeline.bar().close()
  end = time.perf_counter()
  if jax.process_index() == 0:
    print(f'compiled in {compiled - begin:.1f} s, made in {end - compiled:.1f} s')


def slug(prompt: str) -> str:
  """The beginning of a prompt as a part of a file's name: so many letters, and so many bytes."""
  letters = re.sub(r'\W+', '_', files.composed(prompt).lower()).strip('_')[:LETTERS]
  # A cut within a character leaves a part of it, which is no text.
  return letters.encode()[:BYTES].decode(errors='ignore')


def index(jobs: Sequence[Job], made_by: dict) -> list[dict[str, str]]:
  """The metadata of each video, with the name of its file."""
  return [{'file': job.path.name} | job.metadata(made_by) for job in jobs]


def write_index(jobs: Sequence[Job], made_by: dict) -> pathlib.Path:
  """Writes the index, and returns its file: a line for each video, in the folder of them all."""
  path = jobs[0].path.with_name(INDEX)
  path.parent.mkdir(parents=True, exist_ok=True)
  with new_file(path) as file:
    lines = (json.dumps(line) + '\n' for line in index(jobs, made_by))
    file.write_text(''.join(lines), 'utf-8')
  return path


@contextlib.contextmanager
def _made(folder: pathlib.Path) -> Iterator[None]:
  """Makes a folder that is not there, and removes it: a later error should not leave it empty."""
  if folder.exists():
    yield
    return
  try:
    folder.mkdir()
  except OSError as error:
    raise UserFileError(f'Cannot write {folder}: {error.strerror or error}.') from error
  try:
    yield
  finally:
    folder.rmdir()


def _numbered(path: pathlib.Path, number: int, videos: int) -> pathlib.Path:
  return path if videos == 1 else path.with_stem(f'{path.stem}_{number}')
