"""Calls on Apache Beam, which distributes them over the machines of a runner such as Dataflow.

The calls are those of `processes.results`, in a process for each batch.  A pipeline returns nothing
before all of it is done.  Each result is therefore written to a file of its own, in a folder that
all machines can write to, and outlives the pipeline, however that ends.
"""

import argparse
import functools
import hashlib
import json
import pathlib
import pickle
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from core.errors import UserError
from core.folder import new_file
from data import processes

LINES = 'jobs.jsonl'
BATCH = 64  # calls by one process, at most


def results(
  call: Callable,
  jobs: Iterable[str],
  seconds: float,
  *,
  folder: pathlib.Path,
  keep: Callable[[str, object], bool],
  runner: str,
  options: str,
) -> Iterator[tuple[str, object]]:
  """Yields each job and `call(job)`, or a `processes.Lost`, as `processes.results` does.

  call: is imported on other machines, as for `processes.results`.
  folder: is seen by all machines under the same path.
  keep: whether a result in the folder, of an earlier pipeline, is that of the job.
  options: further options of the pipeline, as on a command line.
  """
  beam = _beam()
  pipeline_options = beam.options.pipeline_options.PipelineOptions(shlex.split(options))
  folder.mkdir(exist_ok=True)
  lines, missing = folder / LINES, False
  with lines.open('w', encoding='ascii') as file:
    for job in jobs:
      if _file(folder, job).exists() and keep(*(done := _read(folder, job))):
        yield done
      else:
        missing = True
        file.write(json.dumps(job) + '\n')
  if missing:
    with beam.Pipeline(runner, pipeline_options) as pipeline:
      batches = (
        pipeline
        | beam.Create([lines])  # ReadFromText would take [ and * in the path as a pattern
        | beam.FlatMap(_jobs)
        | beam.Reshuffle()
        | beam.BatchElements(max_batch_size=BATCH)
      )
      _ = batches | beam.Map(functools.partial(_call_all, call, seconds, folder))
  for job in _jobs(lines):
    yield _read(folder, job)


def _jobs(lines: pathlib.Path) -> Iterator[str]:
  with lines.open(encoding='ascii') as file:
    yield from map(json.loads, file)


def require(runner: str, options: str) -> None:
  """Raises ValueError if Beam is missing or has no such runner, or does not know the options."""
  beam = _beam()
  try:
    portable = beam.runners.portability.portable_runner.PortableRunner
    made = beam.runners.runner.create_runner(runner)
    unknown = _unknown(beam, shlex.split(options))
    if unknown and not isinstance(made, portable):  # whose job service may have more options
      raise ValueError(f'{runner} has no options {" ".join(unknown)}')
  except (ValueError, ImportError, AttributeError) as error:
    raise UserError(f'Got --beam_runner={runner} --beam_options={options}: {error}') from error


def _unknown(beam, words: Sequence[str]) -> list[str]:
  """The words that are no options of a pipeline, which Beam itself would only log."""

  def refuse(message: str):
    raise ValueError(message)

  parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  parser.error = refuse  # otherwise it prints all options and exits
  for group in beam.options.pipeline_options.PipelineOptions.__subclasses__():
    group._add_argparse_args(parser)
  return parser.parse_known_args(words)[1]


def _beam():
  try:
    import apache_beam
    import apache_beam.runners.portability.portable_runner
  except ModuleNotFoundError as error:
    raise UserError(
      'For --beam_runner a package is needed: pip install -r requirements-beam.txt, in an '
      'environment of its own.'
    ) from error
  return apache_beam


def _call_all(call: Callable, seconds: float, folder: pathlib.Path, jobs: Sequence[str]) -> None:
  """Writes the results of several calls; the same call may run elsewhere at the same time."""
  for job, result in processes.results(call, jobs, 1, seconds):
    file = _file(folder, job)
    file.parent.mkdir(exist_ok=True)
    with new_file(file) as incomplete:
      incomplete.write_bytes(pickle.dumps((job, result)))


def _file(folder: pathlib.Path, job: str) -> pathlib.Path:
  digest = hashlib.sha256(json.dumps(job).encode()).hexdigest()
  return folder / digest[:2] / digest[2:]


def _read(folder: pathlib.Path, job: str) -> tuple[str, object]:
  return pickle.loads(_file(folder, job).read_bytes())
