"""Folders of generated videos of many prompts, made by any number of hosts, which can be resumed.

A video depends only on its prompt, its number in the list and the seed.  Batches are the same
however many videos are missing, so that videos have the same bits after an interruption.
"""

import glob
import json
import pathlib
import sys
from collections.abc import Sequence

import jax

from core import unicode
from core.errors import UserError
from core.writable import require_folder
from evaluation.folder import Folder
from pipelines import Pipeline
from pipelines.checkpoints import Checkpoint
from pipelines.jobs import INDEX, Job, generate, index, slug, write_index
from training.agreement import from_first


def plan(
  prompts: Sequence[str], folder: pathlib.Path, extension: str, per_prompt: int = 1
) -> list[Job]:
  """The numbered jobs of all videos, `per_prompt` for each prompt; nothing is written."""
  repeated = [prompt for prompt in prompts for _ in range(per_prompt)]
  return [
    Job(prompt, i, folder / f'{i:05}_{slug(prompt)}{extension}')
    for i, prompt in enumerate(repeated)
  ]


def sample(
  jobs: Sequence[Job],
  base: Checkpoint,
  ssr: Checkpoint | None = None,
  *,
  batch: int,
  seed: int,
  host: int = 0,
  hosts: int = 1,
) -> list[Job]:
  """Generates the missing videos of this host's share; returns the jobs that are still missing.

  If a host is a run of several processes, all of them call this together, and the first one decides
  what is missing, and writes.

  UserError where the index of the folder says that its videos were made by another model, with
  other settings, or of other prompts.
  """
  if not 0 <= host < hosts:
    raise UserError(f'Got host {host} of {hosts}; allowed are 0 to {hosts - 1}.')
  fps = base.config.data.fps
  made_by = base.made_by(seed, ssr) | {'batch': batch, 'fps': fps}
  is_first = jax.process_index() == 0
  if is_first:
    _begin_index(jobs, made_by)
  missing = _missing(jobs)
  batches = [jobs[i : i + batch] for i in range(0, len(jobs), batch)]
  share = batches[host::hosts]
  incomplete = [some for some in share if any(job in missing for job in some)]
  if todo := [job for some in incomplete for job in some]:
    if is_first:
      _clear(todo)
    pipeline = Pipeline.open(base, ssr, batch=batch, progress=sys.stderr.isatty())
    pipeline = pipeline.load_params(base, ssr)
    for i, (job, pixels) in enumerate(generate(todo, pipeline, seed=seed)):
      if is_first and i == 0:  # another host may have started with other settings meanwhile
        _require_same_index(jobs, made_by)
      if is_first:
        job.write(pixels, fps=fps, upscale=1, made_by=made_by)
  return _missing(jobs)


def require_place(folder: pathlib.Path) -> None:
  """Raises OSError where no video can be written to a folder without an index."""
  if not (folder / INDEX).exists():  # a folder with an index may be complete
    require_folder(folder)


def sampled(jobs: Sequence[Job]) -> Folder:
  """The folder of the videos of the jobs, which all exist; other files in it are ignored."""
  return Folder(jobs[0].path.parent, tuple(job.path.name for job in jobs))


def _missing(jobs: Sequence[Job]) -> list[Job]:
  """The jobs whose videos the first process does not find, in all processes."""
  return [jobs[i] for i in from_first([i for i, job in enumerate(jobs) if not job.path.exists()])]


def _clear(todo: Sequence[Job]) -> None:
  """Removes the partial files of a killed run.  OSError if the folder cannot be written to."""
  require_folder(todo[0].path.parent)
  for job in todo:
    for stray in job.path.parent.glob(f'.{glob.escape(job.path.name)}.*.part'):
      stray.unlink()


def _begin_index(jobs, made_by):
  """Writes the index, or compares it with the index of videos that exist."""
  path = jobs[0].path.with_name(INDEX)
  if path.parent.exists() and not path.parent.is_dir():
    raise UserError(f'{path.parent} is a file; allowed is a folder of samples, or a new one.')
  # An index without a video is from a run that failed, perhaps as its batch was too large.
  if not any((path.parent / line['file']).exists() for line in _read_index(path)):
    write_index(jobs, made_by)
  _require_same_index(jobs, made_by)


def _require_same_index(jobs, made_by):
  """Raises UserError where the index has other prompts, or another model or settings."""
  path = jobs[0].path.with_name(INDEX)
  present, expected = _read_index(path), index(jobs, made_by)
  keys = present[0].keys() | expected[0].keys()
  if differ := sorted(key for key in keys if present[0].get(key) != expected[0].get(key)):
    raise UserError(
      f'{path.parent} has samples that were made differently: {", ".join(differ)} '
      'differ.  Another folder is needed.'
    )
  if present != expected:
    raise UserError(f'{path.parent} has samples of other prompts.  Another folder is needed.')


def _read_index(path) -> list[dict[str, str]]:
  """The lines of an index; empty where it does not exist."""
  try:
    text = path.read_text('utf-8') if path.exists() else ''
    lines = [json.loads(line) for line in unicode.lines(text) if line]
    return [line for line in lines if line['file']]
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f'{path} is no index of samples.  Another folder is needed.') from error
