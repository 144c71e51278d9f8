"""Clips and captions, read, shuffled, cropped and batched.

A source has a length, and `source[i]` is `{'video': uint8 't h w 3', 'caption': str}`, with further
arrays where a stage is conditioned on more, such as `mask`, bool 't h w'.  A source that chooses
among several windows of a clip also has `draw(i, rng)`, which returns the same.
"""

import functools
import gc
import pathlib
import signal
import sys
from collections.abc import Callable, Collection, Sequence

import grain
import numpy as np

from core import interrupt
from core.errors import UserError
from data import dataset, synthetic

KILLED = 'terminated unexpectedly'  # what Grain says of a worker
REPLACED = 3  # times without a batch in between, after which something else is wrong

SYNTHETIC = 'synthetic'  # the source of moving shapes
SHAPES = {'train': 0, 'validation': 1, 'test': 2}  # the seed of each split of the moving shapes


def splits(source: str) -> list[str]:
  """The names of the splits of a source, which `open_source` opens."""
  if source == SYNTHETIC:
    return sorted(SHAPES)
  _require_folder(source)
  return dataset.splits(source)


def open_source(
  source: str,
  *,
  size: int,
  frames: int,
  fps: float,
  split: str = 'train',
  crop: str = 'center',
  shorter_side: int = 0,
  min_side: int = 0,
):
  """The random-access source which `source` names, of clips of `frames` frames, `size` square.

  They are cut, 'center' or 'random', from frames of a `shorter_side`, which at 0 is `size`.
  `'synthetic'` draws moving shapes.  Else `source` is the folder of a dataset which `data.builder`
  has written; its clips whose shorter side is below `min_side` are left out.  See `dataset.Videos`.
  """
  window = dict(size=size, frames=frames, fps=fps, crop=crop, shorter_side=shorter_side)
  if source == SYNTHETIC:
    if split not in SHAPES:
      raise UserError(f'Got split={split!r}; moving shapes have {sorted(SHAPES)}.')
    return synthetic.MovingShapes(**window, seed=SHAPES[split])
  _require_folder(source)
  return dataset.Videos(source, split=split, min_side=min_side, **window)


def _require_folder(source: str) -> None:
  if not source or not pathlib.Path(source).is_dir():  # '' is no folder, though the path of one
    raise UserError(
      f'Got the source {source!r}; allowed are {SYNTHETIC!r} and a folder which data.builder wrote.'
    )


def batches(
  source,
  encode: Callable[[Sequence[str]], tuple],
  *,
  keys: Collection[str] = ('video', 'text', 'text_mask'),
  batch: int,
  seed: int,
  workers: int = 0,
  shuffle: bool = True,
  rows: Sequence[int] | None = None,
) -> grain.DatasetIterator:
  """An endless iterator of batches: `{'video': uint8 'b t h w c', 'text': 'b n d', ...}`.

  `keys` are those of a batch, as a stage declares them.  `encode` maps captions to `text` and
  `text_mask`; the other arrays are those of the examples.  `batch` counts the examples of all
  processes, and `rows` says which of them this process gets, in this order; None is all of them.
  Whoever asks for row i of a batch gets what one process alone would get in that row.  Every
  example appears once in an epoch, each of which is shuffled anew; an epoch shorter than a batch is
  followed by the next within it.  `workers` processes read ahead, threads of this one where it is
  0.

  The sequence is a function of `source`, `batch` and `seed` alone; `get_state` and `set_state`
  resume it exactly.  Call `close()` at the end.
  """
  if len(source) < 1:
    raise UserError('Got a data source without an example; at least 1 is needed.')
  if batch < 1:
    raise UserError(f'Got batch={batch}; allowed is 1 or more.')
  rows = range(batch) if rows is None else rows
  if not rows or min(rows) < 0 or max(rows) >= batch:
    raise UserError(f'Got rows={list(rows)} of a batch; allowed are some of 0 to {batch - 1}.')

  share = len(rows)
  stream = _stream(source, seed, shuffle, collect=workers > 0)
  # Whoever asks for one batch is soon asking for the next: that much is read ahead.
  ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2 if workers else max(2, share))

  def start(done):
    place = grain.MapDataset.range(done * share, sys.maxsize).map(
      lambda i: stream[i // share * batch + rows[i % share]]
    )
    examples = place.to_iter_dataset(ahead)
    if workers:
      options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
      examples = examples.mp_prefetch(options, worker_init_fn=_begin_worker)
    # After the workers: a batch is then of consecutive examples, whatever their number.
    return iter(examples.batch(share, batch_fn=lambda clips: _collate(clips, encode, keys)))

  return _Batches(start)


def _begin_worker(index: int, count: int) -> None:
  # Objects that exist when a worker starts are exempt from garbage collection, which is then fast.
  gc.freeze()
  signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Batches(grain.DatasetIterator):
  """Has as its state the number of batches taken, for any number of workers and processes.

  So workers that were killed, as by a kernel short of memory, are replaced, and nothing is lost or
  repeated: `counts` has how often.  What they raise themselves is raised here.
  """

  def __init__(self, start: Callable[[int], grain.DatasetIterator]):
    super().__init__()
    self._start, self._done, self._running = start, 0, None
    self.counts = {'workers_replaced': 0}

  def __next__(self) -> dict:
    self._assert_not_closed()
    for attempt in range(1 + REPLACED):
      try:
        batch = self._first() if self._running is None else next(self._running)
        break
      except RuntimeError as error:
        if KILLED not in str(error) or attempt == REPLACED:
          raise
        self.counts['workers_replaced'] += 1
        self._stop()
    self._done += 1
    return batch

  def get_state(self) -> dict:
    return {'batches': self._done}

  def set_state(self, state: dict) -> None:
    self._stop()
    self._done = int(state['batches'])

  def start_prefetch(self) -> None:
    self._running = self._running or self._start(self._done)
    self._running.start_prefetch()

  def _first(self) -> dict:
    # A terminal sends Ctrl-C to all processes, and this one is not done with its workers then.
    with interrupt.not_for_children():
      self._running = self._start(self._done)
      return next(self._running)

  def close(self) -> None:
    self._stop()
    super().close()

  def _stop(self) -> None:
    if self._running:
      self._running.close()
      self._running = None


def _stream(source, seed: int, shuffle: bool, collect: bool) -> grain.MapDataset:
  """All epochs end to end, each of its examples with random numbers of its own."""
  draw = functools.partial(_draw, source, collect)
  order = grain.MapDataset.range(len(source)).seed(seed)
  return (order.shuffle() if shuffle else order).random_map(draw).repeat()


def _draw(source, collect: bool, i, rng: np.random.Generator) -> dict:
  try:
    return source.draw(i, rng) if hasattr(source, 'draw') else source[i]
  except Exception as error:
    error.add_note(f'while reading record {int(i)} of {source}')
    raise
  finally:
    # PyAV leaves cycles of references of each file, few but large: Python would be in no hurry.
    if collect:
      gc.collect()


def _collate(clips: Sequence[dict], encode, keys: Collection[str]) -> dict:
  text, text_mask = encode([clip['caption'] for clip in clips])
  batch = {'text': text, 'text_mask': text_mask}
  return batch | {k: np.stack([clip[k] for clip in clips]) for k in keys if k not in batch}
