import gc
import itertools
import json
import pathlib
import signal
import time

import numpy as np
import psutil
import pytest
from absl import flags

from core.errors import UserError
from data import pipeline
from data.parts import mixed


class Numbers:
  """A data source whose frames contain the example's index."""

  def __init__(self, length):
    self.length = length

  def __len__(self):
    return self.length

  def __getitem__(self, i):
    return {'video': np.full((1, 2, 2, 3), i, np.uint8), 'caption': f'number {i}'}


class Broken(Numbers):
  """A data source whose third record cannot be read."""

  def __getitem__(self, i):
    if i == 3:
      raise OSError('no such frame')
    return super().__getitem__(i)

  def __str__(self):
    return 'clips'


class Draws(Numbers):
  """A data source with random frames, whose captions are the example's index."""

  def draw(self, i, rng):
    return {**self[i], 'video': rng.integers(0, 256, (1, 2, 2, 3), np.uint8)}


class Leftover:
  """A reference cycle, as a decoder may leave behind."""

  def __init__(self):
    self.itself = self


class Leaves(Numbers):
  """A data source that leaves a cycle for each example, whose captions are the number of cycles."""

  def __getitem__(self, i):
    gc.disable()  # only explicit collection runs now
    left = sum(isinstance(x, Leftover) for x in gc.get_objects())
    Leftover()
    return super().__getitem__(i) | {'caption': f'number {left}'}


def encode(captions):
  text = np.array([[[float(c.split()[1])]] for c in captions], np.float32)
  return text, np.ones(text.shape[:2], bool)


@pytest.fixture
def open_batches():
  """`pipeline.batches`, closed at the end of the test."""
  flags.FLAGS.mark_as_parsed()  # as `core.command.run` has done; Grain's workers read flags
  opened = []

  def open_batches(source, batch=4, seed=0, **kwargs):
    opened.append(pipeline.batches(source, encode, batch=batch, seed=seed, **kwargs))
    return opened[-1]

  yield open_batches
  for batches in opened:
    batches.close()


def numbers(batches, count):
  taken = list(itertools.islice(batches, count))
  return np.concatenate([b['text'][:, 0, 0] for b in taken]).astype(int).tolist()


def same(a, b):
  pairs = zip(a, b, strict=True)
  return all(x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for x, y in pairs)


def test_a_batch_has_the_documented_parts_and_each_caption_its_own_video(open_batches):
  batch = next(open_batches(Numbers(9)))
  assert batch['video'].shape == (4, 1, 2, 2, 3)
  assert batch['video'].dtype == np.uint8
  assert batch['text'].dtype == np.float32
  assert batch['text_mask'].dtype == bool
  np.testing.assert_array_equal(batch['video'][:, 0, 0, 0, 0], batch['text'][:, 0, 0])


def test_every_epoch_has_every_example_once_in_an_order_of_its_own(open_batches):
  # 9 and 4 have no common divisor: epochs end within batches.
  seen = np.array(numbers(open_batches(Numbers(9)), 9)).reshape(4, 9)
  np.testing.assert_array_equal(np.sort(seen), np.broadcast_to(np.arange(9), (4, 9)))
  assert len({tuple(epoch) for epoch in seen}) == 4


def test_ctrl_c_in_a_terminal_ends_no_worker(open_batches):
  """All processes get it; the run takes batches until it has come to a step's end."""
  batches = open_batches(Numbers(9), workers=1)
  next(batches)
  workers = [p for p in psutil.Process().children() if 'spawn_main' in ' '.join(p.cmdline())]
  assert len(workers) == 1
  for process in workers:
    process.send_signal(signal.SIGINT)
  numbers(batches, 12)
  assert all(process.is_running() for process in workers)
  assert batches.counts == {'workers_replaced': 0}


def test_the_order_follows_from_the_seed(open_batches):
  first, again, other = (numbers(open_batches(Numbers(50), seed=s), 5) for s in (1, 1, 2))
  assert first == again != other


def test_without_shuffling_the_order_is_that_of_the_source(open_batches):
  assert numbers(open_batches(Numbers(5), shuffle=False), 2) == [0, 1, 2, 3, 4, 0, 1, 2]


def test_a_source_smaller_than_a_batch_is_repeated_within_it(open_batches):
  assert sorted(numbers(open_batches(Numbers(2)), 1)) == [0, 0, 1, 1]


def test_an_example_is_drawn_anew_in_every_epoch(open_batches):
  draws = [next(b)['video'].tobytes() for b in [open_batches(Draws(1), batch=1)] for _ in range(20)]
  assert len(set(draws)) == 20


# Processes with consecutive rows, with other rows, with the same rows, and with repeated rows.
ROWS = {
  'in order': ([0, 1], [2, 3]),
  'apart': ([0, 2], [1, 3]),
  'uneven': ([3], [0, 1, 2]),
  'shared': ([0, 1, 2, 3], [1, 2]),
  'repeated': ([2, 0, 2, 2, 1],),
}


# Workers take no part in the choice of rows; each of them takes a second to start.
@pytest.mark.parametrize(
  ('rows', 'workers'), [*((rows, 0) for rows in ROWS.values()), (ROWS['shared'], 1)],
  ids=[*ROWS, 'shared, by a worker'],
)  # fmt: skip
def test_a_row_is_what_one_process_alone_would_get(open_batches, rows, workers):
  whole = open_batches(Draws(9))
  parts = [open_batches(Draws(9), rows=mine, workers=workers) for mine in rows]
  for batch, *shares in itertools.islice(zip(whole, *parts), 5):
    for mine, share in zip(rows, shares, strict=True):
      assert same([share], [{name: x[mine] for name, x in batch.items()}])


def test_a_stream_goes_on_in_other_rows(open_batches):
  """As if a run is resumed with another number of processes."""
  whole = list(itertools.islice(open_batches(Draws(9)), 6))
  before = open_batches(Draws(9), rows=[1, 3])
  assert len(list(itertools.islice(before, 4))) == 4
  after = open_batches(Draws(9), rows=[0, 1, 2])
  after.set_state(before.get_state())
  for batch, share in zip(whole[4:], itertools.islice(after, 2), strict=True):
    assert same([share], [{name: x[:3] for name, x in batch.items()}])


@pytest.mark.parametrize(('workers', 'workers_then'), [(0, 0), (2, 1)])
def test_a_resumed_stream_is_the_uninterrupted_one(open_batches, workers, workers_then):
  uninterrupted = list(itertools.islice(open_batches(Draws(9)), 7))
  interrupted = open_batches(Draws(9), workers=workers)
  assert same(uninterrupted[:4], itertools.islice(interrupted, 4))
  resumed = open_batches(Draws(9), workers=workers_then)
  resumed.set_state(interrupted.get_state())
  assert same(uninterrupted[4:], itertools.islice(resumed, 3))


def test_a_stream_is_not_resumed_in_other_data(open_batches):
  """Its position is one in an order that no longer exists."""
  state = open_batches(Draws(9)).get_state()
  assert json.loads(json.dumps(state)) == state == {'batches': 0, 'examples': [9]}
  for source, now in ((Draws(8), '8'), (mixed([Draws(9), Draws(200)], [1, 1]), '9 + 200')):
    stream = open_batches(source)
    first = next(stream)
    with pytest.raises(UserError, match='have changed') as error:
      stream.set_state(state)
    assert f'there were 9 examples to train on, and there are {now}, ' in str(error.value)
    stream.set_state({'batches': 0})  # of an earlier version
    assert same([first], [next(stream)])


@pytest.mark.parametrize('workers', [0, 1])
def test_a_record_that_cannot_be_read_is_named(open_batches, workers):
  batches = open_batches(Broken(9), workers=workers, shuffle=False)
  with pytest.raises(OSError, match='no such frame') as error:
    next(batches)
  notes = getattr(error.value, '__notes__', [])
  assert 'while reading record 3 of clips' in [*notes, *str(error.value).splitlines()]


def test_workers_that_are_killed_are_replaced_and_nothing_is_lost(open_batches):
  want = list(itertools.islice(open_batches(Draws(9)), 12))
  batches = open_batches(Draws(9), workers=2)
  before = set(psutil.Process().children(recursive=True))
  got = []
  for i in range(12):
    got.append(next(batches))
    if i == 3:
      for worker in set(psutil.Process().children(recursive=True)) - before:
        if 'grain' in ' '.join(worker.cmdline()) or 'spawn_main' in ' '.join(worker.cmdline()):
          worker.kill()
  assert same(want, got)
  assert batches.counts['workers_replaced'] >= 1


def test_workers_keep_nothing_of_the_records_before(open_batches):
  left = numbers(open_batches(Leaves(9), workers=1), 6)
  assert max(left) < len(left) / 2  # a thread leaves it to another that is collecting


def test_a_stream_can_be_set_back(open_batches):
  batches = open_batches(Draws(9))
  state = batches.get_state()
  first = list(itertools.islice(batches, 3))
  batches.set_state(state)
  assert same(first, itertools.islice(batches, 3))


@pytest.mark.skipif(not pathlib.Path('/dev/shm').is_dir(), reason='shared memory has no paths here')
def test_closed_batches_leave_no_shared_memory(open_batches):
  batches = open_batches(Numbers(9), batch=1, workers=1)
  next(batches)
  slots, end = [], time.monotonic() + 60
  while not slots and time.monotonic() < end:  # until the worker has read ahead
    maps = [m.path for p in psutil.Process().children() for m in p.memory_maps()]
    slots = [path for path in maps if 'psm_' in path and pathlib.Path(path).exists()]
  assert slots
  batches.close()
  assert not any(pathlib.Path(path).exists() for path in slots)


def test_closed_batches_give_nothing(open_batches):
  batches = open_batches(Numbers(9))
  next(batches)
  batches.close()
  with pytest.raises(ValueError, match='closed'):
    next(batches)


def test_mistakes_are_reported(open_batches):
  with pytest.raises(ValueError, match='batch=0; allowed is 1 or more'):
    open_batches(Numbers(9), batch=0)
  for rows in ([], [4], [0, -1]):
    with pytest.raises(ValueError, match=r'rows=.* of a batch; allowed are one or more of 0 to 3'):
      open_batches(Numbers(9), batch=4, rows=rows)
  with pytest.raises(ValueError, match='without any example'):
    open_batches(Numbers(0))


def test_synthetic_clips_have_the_format_asked_for():
  source = pipeline.open_source('synthetic', size=8, frames=4, fps=16.0)
  assert source[3]['video'].shape == (4, 8, 8, 3)


def test_the_splits_of_synthetic_clips_differ():
  sources = [
    pipeline.open_source('synthetic', size=8, frames=4, fps=16.0, split=split)
    for split in ('train', 'validation', 'test')
  ]
  assert len({tuple(s[i]['caption'] for i in range(20)) for s in sources}) == 3
  with pytest.raises(ValueError, match=r"split='dev'; moving shapes have \['test', 'train', 'val"):
    pipeline.open_source('synthetic', size=8, frames=4, fps=16.0, split='dev')


def test_an_unknown_source_is_reported(tmp_path):
  for source in ('', str(tmp_path / 'none')):
    with pytest.raises(ValueError, match=f"Got the source '{source}'; allowed are 'synthetic', a"):
      pipeline.open_source(source, size=8, frames=4, fps=16.0)
