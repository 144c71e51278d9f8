r"""Measures the memory and the time that the dataset builder's own process takes for many files.

  python -m benchmarks.builder_scale --rows=10000,100000,1000000 --output=builder_scale.json

A dataset is built from a manifest with so many lines, and only the layer of files is replaced:
names are listed and results computed without files.  Of 100 files, 95 have one clip of a few bytes,
two a copy of an earlier clip, two a clip that is too short, and one cannot be decoded.  `processes`
would decode in other processes; their time is not in the result.  Each number of rows has a process
of its own, and its memory is the peak of that process beyond its imports.
"""

import hashlib
import itertools
import json
import multiprocessing
import pathlib
import resource
import tempfile
import time
from collections.abc import Iterator
from unittest import mock

from absl import flags, logging

from core import command, files
from core.folder import new_file
from data import builder, filters, manifest, processes, sources, thumbnails

LIMITS = filters.Limits(max_distance=20)
OPTIONS = sources.Options(seconds=5.0, limits=LIMITS)
CLIP = bytes(200)


def names(rows: int) -> Iterator[str]:
  """The names of the files, in folders of a thousand."""
  return (f'{i // 1000:05}/{i % 1000:03}.mp4' for i in range(rows))


def result(file: str) -> sources.Source | str:
  """What `sources.process` could return for a file."""
  number = int(file[:5] + file[6:9])
  kind = number % 100
  if kind == 99:
    return 'cannot be opened: Invalid data found when processing input'
  seen = number - 90 if kind in (97, 98) else number  # a copy of the clip of another file
  digest = hashlib.sha256(str(seen).encode())
  look = digest.hexdigest()[:-1] + '0'  # of its 256 bits, 252 are used
  scores = filters.Scores(motion=3.0, frozen=0.0, black=0.0, look=look)
  fault = (filters.SHORT, '40 frames at 16 a second; at least 80 are needed') if kind > 94 else None
  fault = fault if kind < 97 else None
  part = sources.Segment(0.0, 5.0, False, 80, 360, 640, scores, fault, None if fault else CLIP)
  return sources.Source(digest.hexdigest(), None, (part,))


def measured(rows: int) -> dict:
  """The memory and the CPU time of a build of so many files, in this process."""
  logging.set_verbosity(logging.WARNING)
  with tempfile.TemporaryDirectory() as folder:
    videos, captions = pathlib.Path(folder, 'videos'), pathlib.Path(folder, 'captions.jsonl')
    videos.mkdir()
    with captions.open('w', encoding='utf-8') as file:
      for name in names(rows):
        caption = f'a short film of the file {name}, which a person has described in a sentence'
        file.write(json.dumps({'file': name, 'caption': caption}) + '\n')
    before, begin = _peak(), time.process_time()
    with (
      mock.patch.object(files, 'below', return_value=names(rows)),
      mock.patch.object(
        processes, 'results', lambda call, jobs, *_: ((j, ([], result(j))) for j in jobs)
      ),
      mock.patch.object(thumbnails, 'jpegs', return_value={}),
    ):
      report = builder.build(
        videos, manifest.read(captions), pathlib.Path(folder, 'out'), OPTIONS, validation=0.01
      )
  seconds = time.process_time() - begin
  return {
    'rows': rows,
    'written': report['written'],
    'reasons': report['reasons'],
    'megabytes': (_peak() - before) / 1e6,
    'bytes_a_row': (_peak() - before) / rows,
    'rows_a_second': rows / seconds,
  }


def _peak() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
  output = command.json_file(flags.FLAGS.output)
  results = []
  for rows in map(int, flags.FLAGS.rows):
    with multiprocessing.get_context('spawn').Pool(1) as pool:
      results.append(pool.apply(measured, (rows,)))
    print(json.dumps(results[-1]))
  for less, more in itertools.pairwise(results):
    growth = (more['megabytes'] - less['megabytes']) * 1e6 / (more['rows'] - less['rows'])
    print(f'{less["rows"]} to {more["rows"]} rows: {growth:.0f} bytes for each row more')
  if output:
    with new_file(output) as file:
      file.write_text(json.dumps(results, indent=2) + '\n', 'utf-8')


if __name__ == '__main__':
  flags.DEFINE_list('rows', ['10000', '100000', '1000000'], 'Numbers of files of the datasets.')
  flags.DEFINE_string('output', None, 'JSON file to write the results to.')
  command.run(main)
