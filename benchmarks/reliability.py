r"""Proves that a run can be left alone: kills, damage, full disks, hangs, other machines.

  python benchmarks/reliability.py --source=DATASET --output=docs/reliability.md

Each row is an experiment with `train.py` on a tiny model, in processes of its own.  The tests have
short forms of them.  `--source` is a dataset of real clips, which `data.builder` wrote: without
one, the loader is left out, and the table says so.
"""

import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from absl import flags

if not __package__:  # run by its path, and not with -m: the project is not where Python looks
  sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from benchmarks import beginnings, faults, interruptions, sections
from core import command

TITLE = 'Runs that are killed, moved and damaged'


def experiments(folder: pathlib.Path, source: str) -> Iterator[tuple[str, Callable[[], str]]]:
  """Each with its name."""
  yield '30 runs killed at random times', lambda: interruptions.kills(folder, 30)
  yield '8 runs told to stop', lambda: interruptions.stops(folder, 8)
  yield 'on 1, 2, 4, 8 devices and two processes', lambda: interruptions.elsewhere(folder)
  yield 'two processes', lambda: interruptions.many(folder, 50)
  yield 'stages that begin from a model of one process', lambda: beginnings.begin(folder)
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
        found = experiment()
      except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
        failed, found = True, f'FAILS: {error}'
      rows.append(f'| {name} | {found} | {time.monotonic() - began:.0f} s |')
      print(rows[-1], flush=True)
  source = ' --source=DATASET' if flags.FLAGS.source else ''
  sections.replace(
    out,
    TITLE,
    f'At commit {sections.commit()}, by '
    f'`python benchmarks/reliability.py --output={out}{source}`:\n\n'
    '| experiment | what came out | took |\n|---|---|---|\n' + '\n'.join(rows),
  )
  sys.exit(1 if failed else 0)


if __name__ == '__main__':
  flags.DEFINE_string('output', 'docs/reliability.md', 'The table, .md.')
  flags.DEFINE_string('source', '', 'A folder that data.builder wrote: of which the loader reads.')
  command.run(main)
