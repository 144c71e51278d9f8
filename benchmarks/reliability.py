r"""Tests that training survives kills, damaged files, full disks, hangs and moves to other devices.

  python benchmarks/reliability.py --source=DATASET --output=docs/reliability.md

Each row of the table is an experiment with `train.py` on a tiny model, in separate processes.  The
tests contain short forms of them.  `--source` is a dataset of real clips that `data.builder` wrote;
without it, the experiment on the data loader is left out.
"""

import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from absl import flags

if not __package__:  # run by its path instead of with -m, so that the project is not on the path
  sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from benchmarks import beginnings, faults, interruptions, sections
from core import command

TITLE = 'Runs that are killed, moved and damaged'


def experiments(folder: pathlib.Path, source: str) -> Iterator[tuple[str, Callable[[], str]]]:
  """Yields (name, experiment)."""
  yield '30 runs killed at random times', lambda: interruptions.kills(folder, 30)
  yield '8 runs stopped by a signal', lambda: interruptions.stops(folder, 8)
  yield 'on 1, 2, 4, 8 devices and two processes', lambda: interruptions.elsewhere(folder)
  yield 'two processes', lambda: interruptions.many(folder, 50)
  yield 'stages that start from a model of one process', lambda: beginnings.begin(folder)
  yield 'damaged checkpoints', lambda: faults.damage(folder)
  yield 'a full disk', lambda: faults.full_disk(folder)
  yield 'batches that are not finite', lambda: faults.not_numbers(folder)
  clips = '3,000 batches of real clips'
  yield clips, lambda: faults.loader(source, 3000) if source else 'left out: no --source'
  yield 'hangs', lambda: faults.hangs(folder)


def main() -> None:
  out = pathlib.Path(flags.FLAGS.output)
  sections.require(out)
  rows, failed = [], False
  with tempfile.TemporaryDirectory() as folder:
    for name, experiment in experiments(pathlib.Path(folder), flags.FLAGS.source):
      began = time.monotonic()
      try:
        result = experiment()
      except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
        failed, result = True, f'FAILS: {error}'
      rows.append(f'| {name} | {result} | {time.monotonic() - began:.0f} s |')
      print(rows[-1], flush=True)
  source = ' --source=DATASET' if flags.FLAGS.source else ''
  sections.replace(
    out,
    TITLE,
    f'The rows were measured at commit {sections.commit()} with '
    f'`python benchmarks/reliability.py --output={out}{source}`:\n\n'
    '| experiment | result | time |\n|---|---|---|\n' + '\n'.join(rows),
  )
  sys.exit(1 if failed else 0)


if __name__ == '__main__':
  flags.DEFINE_string(
    'output', 'docs/reliability.md', 'Markdown page in which to write the table, .md.'
  )
  flags.DEFINE_string(
    'source', '', 'Dataset for the experiment on the data loader: a folder that data.builder wrote.'
  )
  command.run(main)
