"""The processing of all files of a dataset that are not done."""

import functools
import pathlib
import shutil
from collections.abc import Iterable

import tqdm

from data import beam, processes, progress, sources


def process(
  videos: pathlib.Path,
  files: Iterable[str],
  options: sources.Options,
  work: progress.Progress,
  *,
  workers: int,
  beam_runner: str = '',
  beam_options: str = '',
) -> None:
  """Adds the results of all of `files` that are not done to `work`.

  They are computed in `workers` processes, or by Beam's runner `beam_runner` if it is not ''.
  """
  todo = (file for file in files if file not in work.done)
  folder, temporary = work.folder / 'beam', work.folder / 'temporary'
  temporary.mkdir(exist_ok=True)
  call = functools.partial(_result, videos.absolute(), options, temporary)
  if beam_runner:
    results = beam.results(
      call,
      todo,
      options.file_seconds,
      folder=folder,
      keep=functools.partial(_is_of, videos),
      runner=beam_runner,
      options=beam_options,
    )
  else:
    results = processes.results(call, todo, workers, options.file_seconds)
  with tqdm.tqdm(desc='decoding', unit='file', initial=len(work.done)) as bar:
    for file, done in results:
      if isinstance(done, processes.Lost):  # not written: a build that is continued tries again
        work.done[file] = f'decoding it {done.reason}'
      else:
        work.add(file, *done)
      bar.update()
  work.sync()
  for finished in (folder, temporary):
    shutil.rmtree(finished, ignore_errors=True)


def _result(
  videos: pathlib.Path, options: sources.Options, temporary: pathlib.Path, file: str
) -> tuple[list[int], sources.Source | str]:
  """The version of a file, and what becomes of it."""
  path = videos / file
  return progress.version_of(path), sources.process(path, options, temporary)


def _is_of(videos: pathlib.Path, file: str, done: object) -> bool:
  """Whether this is a result of the file as it is now."""
  return not isinstance(done, processes.Lost) and done[0] == progress.version_of(videos / file)
