"""Batches of clips and captions: examples are read, shuffled, cropped and batched.

A data source has a length, and `source[i]` is `{'video': uint8 't h w 3', 'caption': str}`, with
further arrays if a stage is conditioned on more, such as `mask`, bool 't h w'.  If it chooses a
random window of a clip, it also has `draw(i, rng)`, which returns the same keys.  If it does not
use all clips of a dataset, its `left_out` says how many and why.  If its videos have several
shapes, or it joins several sources, it has `parts`: see `data.parts`.
"""

import functools
import gc
import pathlib
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction

import grain
import numpy as np

from core.errors import UserError
from core.frame_size import Size
from data import buckets as of_shapes
from data import dataset, integrity, named, slots, synthetic
from data.iterator import Batches
from data.order import Order, bucket_shares
from data.parts import Joined, Part, draw, parts

SYNTHETIC = 'synthetic'  # the name of the moving shapes
SHAPES = {'train': 0, 'validation': 1, 'test': 2}  # the seed of each split of the moving shapes


def splits(source: str) -> list[str]:
  """The names of the splits of a data source; see `open_source`."""
  if source == SYNTHETIC:
    return sorted(SHAPES)
  if source.startswith(named.PREFIX):
    return named.splits(source)
  _require_folder(source)
  return dataset.splits(source)


def motion_weights(split: str) -> Mapping[str, int]:
  """How often motions are drawn in a split of the moving shapes: evenly, except for training."""
  return synthetic.TRAINING_WEIGHTS if split == 'train' else synthetic.EVEN


def open_source(
  source: str,
  *,
  size: Size,
  frames: int,
  fps: float,
  split: str = 'train',
  crop: str = 'center',
  shorter_side: int = 0,
  min_side: int = 0,
  caption_template: str = '',
  buckets: Sequence = (),
):
  """The data source called `source`, of clips of `frames` frames of this size in pixels.

  source: 'synthetic' for the moving shapes, the folder of a dataset that `data.builder` wrote, or
    the name of a dataset of TFDS behind `tfds:`.
  crop: 'center' or 'random', from frames that cover a rectangle of the same aspect ratio whose
    shorter side is `shorter_side`, or that of `size` if it is 0.
  min_side: clips of a dataset that are smaller are left out, as are those with fewer frames; see
    `dataset.Videos`.
  caption_template: of a dataset of TFDS alone; see `named.Named`.
  buckets: the frames, height and width of clips, in place of `frames` and `size`; each clip of a
    dataset is in one of them, see `buckets.best`.  Moving shapes are divided evenly among them.
  """
  for name, value, least in (('frames', frames, 1), ('min_side', min_side, 0)):
    if value < least:
      raise UserError(f'Got data.{name}={value}; {least} or more is allowed.')
  window = dict(crop=crop, shorter_side=shorter_side)
  if source.startswith(named.PREFIX):
    if buckets:
      raise UserError(f'Got data.buckets and the source {source}; allowed with it is data.size.')
    window |= dict(size=size, frames=frames, min_side=min_side)
    return named.Named(source, split=split, template=caption_template, **window)
  window |= dict(fps=fps)
  shapes = of_shapes.shapes(buckets, size=size, frames=frames)
  if source == SYNTHETIC:
    if split not in SHAPES:
      raise UserError(f'Got split={split!r}; moving shapes have {sorted(SHAPES)}.')
    window |= dict(seed=SHAPES[split], weights=motion_weights(split))
    drawn = [synthetic.MovingShapes((h, w), t, **window) for t, h, w in shapes]
    share = Fraction(1, len(drawn))
    by_bucket = [Part(s, range(len(s)), share, i) for i, s in enumerate(drawn)]
    return Joined(by_bucket) if buckets else drawn[0]
  _require_folder(source)
  window |= dict(split=split, min_side=min_side)
  return dataset.Videos(source, size=size, frames=frames, buckets=buckets, **window)


def _require_folder(source: str) -> None:
  if not source or not pathlib.Path(source).is_dir():  # '' is no folder, though the path of one
    raise UserError(
      f'Got the source {source!r}; allowed are {SYNTHETIC!r}, a folder which data.builder wrote, '
      f'and a dataset of TFDS, as {named.PREFIX}ucf101.'
    )
  if not any(pathlib.Path(source, name).exists() for name in integrity.FILES):
    raise UserError(
      f'{source} is a folder without a dataset.  To make one of its videos, run  python -m '
      f'data.builder --videos={source} --captions=FILE --out=FOLDER  and name FOLDER here.'
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
) -> Batches:
  """An infinite iterator of batches: `{'video': uint8 'b t h w c', 'text': 'b n d', ...}`.

  encode: maps captions to (text, text mask).
  keys: the keys of a batch, as the stage declares them; arrays besides `text` and `text_mask` are
    those of the examples.
  batch: the number of examples in the global batch, over all processes.
  rows: the rows of the global batch that this process reads, in this order; None is all of them.
    A row has the same example however the rows are divided among processes.
  workers: the number of processes that read ahead; if 0, threads of this process do.  With -1 it is
    1 at first, and `add_workers` doubles it.
  shuffle: whether to shuffle each epoch.

  Every example appears once in an epoch, and every epoch has its own order.  A batch may begin in
  one epoch and end in a later one.  If the source has several parts, each has its own epochs; a
  batch is of parts of one bucket, and the parts are read as `data.order` says.

  The sequence depends only on `source`, `batch`, `seed` and `shuffle`; `get_state` and `set_state`
  resume it exactly.  Call `close()` at the end.
  """
  each, rows = parts(source), range(batch) if rows is None else rows
  _require_rows(each, batch, rows)
  share = len(rows)
  # The first part has the seed itself, so that a source of one part has the order of its epochs.
  seeds = [seed, *map(int, np.random.SeedSequence(seed).generate_state(len(each) - 1))]
  streams = [_stream(p, s, shuffle, collect=workers != 0) for p, s in zip(each, seeds)]
  order = Order.from_parts(each, batch)
  take = lambda part, place: streams[part][place]
  # A worker is for one core.  Without workers, the threads read one batch ahead.
  threads, clips = (1, 2) if workers else (2, max(2, share))
  ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=clips)

  def start(done, workers):
    local = grain.MapDataset.range(done * share, sys.maxsize).map(
      lambda i: take(*order.locate(i // share, rows[i % share]))
    )
    examples, stack = local.to_iter_dataset(ahead), np.stack
    if workers:
      examples = examples.map(functools.partial(_send, keys))
      stack = functools.partial(slots.receive, attached={})
      options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
      examples = examples.mp_prefetch(options, worker_init_fn=_begin_worker)
    # Batching after the workers keeps the examples of a batch the same for any number of workers.
    return iter(examples.batch(share, batch_fn=lambda clips: _collate(clips, encode, keys, stack)))

  return Batches(start, workers, bucket_shares(each), [len(part.examples) for part in each])


def _require_rows(each: Sequence[Part], batch: int, rows: Sequence[int]) -> None:
  """UserError unless these parts have examples, and a batch of so many has these rows."""
  if not each or not all(part.examples for part in each):
    raise UserError('Got a data source without any example; at least 1 is needed.')
  if batch < 1:
    raise UserError(f'Got batch={batch}; allowed is 1 or more.')
  if not rows or min(rows) < 0 or max(rows) >= batch:
    raise UserError(
      f'Got rows={list(rows)} of a batch; allowed are one or more of 0 to {batch - 1}.'
    )


def _begin_worker(index: int, count: int) -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stream(part: Part, seed: int, shuffle: bool, collect: bool) -> grain.MapDataset:
  """The examples of all epochs of a part, each drawn with its own random numbers."""
  read = functools.partial(_read, part.source, collect)
  first, end = part.examples.start, part.examples.stop
  order = grain.MapDataset.range(first, end).seed(seed)
  return (order.shuffle() if shuffle else order).random_map(read).repeat()


def _read(source, collect: bool, i, rng: np.random.Generator) -> dict:
  try:
    return draw(source, i, rng)
  except Exception as error:
    error.add_note(f'while reading record {int(i)} of {source}')
    raise
  finally:
    # PyAV leaves few but large reference cycles for each file, which Python would collect late.
    if collect:
      gc.collect()
      _exempt_from_collection()


@functools.cache
def _exempt_from_collection() -> None:
  """Makes later collections fast: the objects that exist after the first record will be kept."""
  gc.freeze()


def _send(keys: Collection[str], clip: dict) -> dict:
  return {k: slots.send(v) if k in keys else v for k, v in clip.items() if k in (*keys, 'caption')}


def _collate(clips: Sequence[dict], encode, keys: Collection[str], stack: Callable) -> dict:
  text, text_mask = encode([clip['caption'] for clip in clips])
  batch = {'text': text, 'text_mask': text_mask}
  return batch | {k: stack([clip[k] for clip in clips]) for k in keys if k not in batch}
