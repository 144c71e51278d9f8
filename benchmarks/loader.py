r"""Measures how fast batches come from a dataset, relative to decoding the same frames with PyAV.

  python -m benchmarks.loader --dataset=runs/clips --frames=80 --size=128 --output=loader.json
  python -m benchmarks.loader --dataset=runs/clips --memory_clips=5000

The loader reads records, decodes a window of each, resizes, crops, batches, and puts the batches on
the devices.  It is compared with PyAV, which decodes the same windows from bytes in memory, in as
many processes, up to the last frame of the window.  PyAV either only decodes, or also converts the
frames that are shown to RGB, at the stored size or at the size to which the loader resizes.

All take turns, `--repeats` times, on the same clips.  Seconds are those of the processor, of all
processes together, since other programs on the machine do not count in them; `wall` are those of
the clock.

With `--memory_clips`, the memory of all processes is measured while that many clips are read, each
of the first `--clips` many times.
"""

import io
import json
import multiprocessing
import time

import av
import jax
import numpy as np
import psutil
from absl import flags

from core import command
from core.errors import UserError
from core.folder import new_file
from core.sharding import make_mesh, put_batch
from data import dataset, pipeline, transforms
from data.timing import SLACK

FPS = 16.0
LOADER, WAYS = 'loader', ('decoded', 'RGB', 'RGB resized')


class Windows:
  """A data source of one window of each of the first clips of a dataset."""

  def __init__(self, videos: dataset.Videos, count: int):
    self.videos, self._count = videos, count

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, i: int) -> dict:
    return self.videos[i]

  def file(self, i: int) -> tuple[bytes, float]:
    """The contents of the file, and the second at which the window begins."""
    record, start = self.videos.window(i, np.random.default_rng(i))
    return record['video'], start


def by_pyav(job: tuple[bytes, float, int, int, str]) -> float:
  """The processor's seconds that PyAV takes for a window, in one of `WAYS`."""
  contents, start, frames, size, way = job
  begun, shown, first, taken, pixels = time.process_time(), None, None, 0, []
  with av.open(io.BytesIO(contents)) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    for frame in container.decode(stream):
      first = frame.time if first is None else first
      until, new = frame.time - first - SLACK, True
      while shown is not None and taken < frames and start + taken / FPS < until:
        if new and way != 'decoded':
          pixels.append(_rgb(shown, size if way == 'RGB resized' else None))
        taken, new = taken + 1, False
      if taken == frames:
        break
      shown = frame
  return time.process_time() - begun


def _rgb(frame: av.VideoFrame, size: int | None) -> np.ndarray:
  height, width = frame.height, frame.width
  if size is not None:
    height, width = transforms.covering(height, width, size)
  return frame.to_ndarray(format='rgb24', height=height, width=width, threads=1)


def used() -> float:
  """The processor's seconds of this process and its children so far."""
  times = [process.cpu_times() for process in _processes()]
  return sum(one.user + one.system for one in times)


def _processes() -> list[psutil.Process]:
  return [psutil.Process(), *psutil.Process().children(recursive=True)]


def opened(source: Windows, batch: int, workers: int):
  """An endless iterator over batches of the source, on the devices."""
  mesh = make_mesh((('data', -1),))
  none = lambda texts: (np.zeros((len(texts), 1, 1), np.float32), np.ones((len(texts), 1), bool))
  batches = pipeline.batches(source, none, batch=batch, seed=0, workers=workers, shuffle=False)
  return batches, (jax.block_until_ready(put_batch(b, mesh)) for b in batches)


def compared(source: Windows, size: int, frames: int, batch: int, workers: int, repeats: int):
  """The seconds of each way, over all repeats, and the ratios of the loader's to the others."""
  count = len(source)
  files = [source.file(i) for i in range(count)]
  seconds, wall = ({way: 0.0 for way in (LOADER, *WAYS)} for _ in range(2))
  batches, on_devices = opened(source, batch, workers)
  ahead = -(-(8 * workers + batch) // batch)  # batches that may be ready before a turn
  with multiprocessing.get_context('spawn').Pool(workers) as pool:
    pool.map(by_pyav, [(*files[0], frames, size, WAYS[0])] * workers, chunksize=1)
    for _ in range(repeats):
      for _ in range(ahead):
        next(on_devices)
      before, begun = used(), time.perf_counter()
      for _ in range(count // batch):
        next(on_devices)
      wall[LOADER] += time.perf_counter() - begun
      seconds[LOADER] += used() - before
      time.sleep(2)  # until the loader has read ahead
      for way in WAYS:
        begun = time.perf_counter()
        jobs = [(*file, frames, size, way) for file in files]
        seconds[way] += sum(pool.map(by_pyav, jobs, chunksize=1))
        wall[way] += time.perf_counter() - begun
  batches.close()
  result = {'clips': count * repeats, 'seconds': seconds, 'wall': wall}
  return result | {f'ratio to {way}': seconds[way] / seconds[LOADER] for way in WAYS}


def memory(source: Windows, batch: int, workers: int, clips: int) -> dict:
  """The memory of all processes in MiB, ten times while so many clips are read."""
  batches, on_devices = opened(source, batch, workers)
  marks = []
  for number in range(1, clips // batch + 1):
    next(on_devices)
    if number % max(clips // batch // 10, 1) == 0:
      total = sum(process.memory_full_info().pss for process in _processes())
      marks.append((number * batch, round(total / 2**20)))
  batches.close()
  return {'clips and MiB': marks}


def main() -> None:
  values, output = flags.FLAGS, command.json_file(flags.FLAGS.output)
  size, frames, batch, workers = values.size, values.frames, values.batch, values.workers
  videos = dataset.Videos(values.dataset, size=size, frames=frames, fps=FPS)
  count = min(values.clips, len(videos)) // batch * batch
  if not count:
    raise UserError(f'--batch={batch}: {values.dataset} has {len(videos)} clips.')
  source = Windows(videos, count)
  if values.memory_clips:
    result = memory(source, batch, workers, values.memory_clips)
  else:
    result = compared(source, size, frames, batch, workers, values.repeats)
  print(json.dumps(result))
  if output:
    with new_file(output) as file:
      file.write_text(json.dumps(result, indent=2) + '\n', 'utf-8')


if __name__ == '__main__':
  flags.DEFINE_string('dataset', None, 'Folder that data.builder wrote.', required=True)
  flags.DEFINE_integer('size', 128, 'Side of the frames in pixels.')
  flags.DEFINE_integer('frames', 80, 'Frames of a window, at 16 a second.')
  flags.DEFINE_integer('batch', 4, 'Clips in a batch.')
  flags.DEFINE_integer('workers', 2, 'Processes of the loader, and of PyAV.')
  flags.DEFINE_integer('clips', 16, 'Clips of the dataset that are read.')
  flags.DEFINE_integer('repeats', 3, 'Turns of each way.')
  flags.DEFINE_integer('memory_clips', 0, 'Clips that are read to measure memory.')
  flags.DEFINE_string('output', None, 'JSON file to write the result to.')
  command.run(main)
