"""Videos of many prompts as a folder: made by any number of hosts, killed and gone on with.

What a video is depends on its prompt, its place in the list and the seed alone.  Batches are cut
at the same places however many are missing, so that what is made after an interruption has the
bits it would have had.
"""

import glob
import json
import pathlib
from collections.abc import Sequence

from core import unicode
from core.errors import UserError
from core.writable import require_folder
from evaluation.folder import Folder
from pipelines.jobs import INDEX, Job, index, slug, write_index
from pipelines.run import Model, run


def plan(
  prompts: Sequence[str], folder: pathlib.Path, extension: str, per_prompt: int = 1
) -> list[Job]:
  """A job for each of so many videos of every prompt, numbered through; nothing is written."""
  every = [prompt for prompt in prompts for _ in range(per_prompt)]
  return [
    Job(prompt, i, folder / f'{i:05}_{slug(prompt)}{extension}') for i, prompt in enumerate(every)
  ]


def sample(
  jobs: Sequence[Job],
  base: Model,
  ssr: Model | None = None,
  *,
  batch: int,
  seed: int,
  host: int = 0,
  hosts: int = 1,
) -> list[Job]:
  """The jobs whose videos are not there yet, after this host made those of its share that were not.

  The folder's index says what made the videos; ValueError where they were made by another model,
  with other settings, or of other prompts.
  """
  if not 0 <= host < hosts:
    raise UserError(f'Got host {host} of {hosts}; allowed are 0 to {hosts - 1}.')
  fps = base.config.data.fps
  made_by = base.made_by('', seed) | (ssr.made_by('ssr_', seed) if ssr else {})
  made_by |= {'batch': batch, 'fps': fps}
  _begin(jobs, made_by)
  batches = [jobs[i : i + batch] for i in range(0, len(jobs), batch)]
  missing = [some for some in batches[host::hosts] if not all(job.path.exists() for job in some)]
  if todo := [job for some in missing for job in some]:
    require_folder(jobs[0].path.parent)
    for job in todo:  # what a killed run had begun to write
      for stray in job.path.parent.glob(f'.{glob.escape(job.path.name)}.*.part'):
        stray.unlink()
    for i, (job, pixels) in enumerate(run(todo, base, ssr, batch=batch, seed=seed)):
      if i == 0:  # while this one compiled, another host may have begun otherwise
        _compare(jobs, made_by)
      job.write(pixels, fps=fps, upscale=1, made_by=made_by)
  return [job for job in jobs if not job.path.exists()]


def require_place(folder: pathlib.Path) -> None:
  """Raises OSError where no video can be written to a folder which has none of them yet."""
  if not (folder / INDEX).exists():  # nothing is written to one that has all
    require_folder(folder)


def sampled(jobs: Sequence[Job]) -> Folder:
  """The folder of the jobs' videos, all of which are there."""
  # What else lies there is none of theirs.
  return Folder(jobs[0].path.parent, tuple(job.path.name for job in jobs))


def _begin(jobs, made_by):
  """Writes the index, or compares with the one of videos that are there."""
  path = jobs[0].path.with_name(INDEX)
  if path.parent.exists() and not path.parent.is_dir():
    raise UserError(f'{path.parent} is a file; allowed is a folder of samples, or a new one.')
  # Without a video an index is of a run that came to nothing, perhaps for its batch.
  if not any((path.parent / line['file']).exists() for line in _indexed(path)):
    write_index(jobs, made_by)
  _compare(jobs, made_by)


def _compare(jobs, made_by):
  """Raises ValueError where the index is of other videos, or of others' making."""
  path = jobs[0].path.with_name(INDEX)
  found, lines = _indexed(path), index(jobs, made_by)
  keys = found[0].keys() | lines[0].keys()
  if differ := sorted(k for k in keys if found[0].get(k) != lines[0].get(k)):
    raise UserError(
      f'{path.parent} holds samples that were made otherwise: {", ".join(differ)} differ.  '
      'Another folder is needed.'
    )
  if found != lines:
    raise UserError(f'{path.parent} holds samples of other prompts.  Another folder is needed.')


def _indexed(path) -> list[dict[str, str]]:
  """The lines of an index, none where it is not there."""
  try:
    text = path.read_text('utf-8') if path.exists() else ''
    lines = [json.loads(line) for line in unicode.lines(text) if line]
    return [line for line in lines if line['file']]
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f'{path} is none of samples.  Another folder is needed.') from error
