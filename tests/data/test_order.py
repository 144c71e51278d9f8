"""The order of batches of several buckets and sources: nothing is lost, and shares are exact."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from data import pipeline
from data.order import Order, bucket_shares, turns
from data.parts import Joined, Part, mixed, parts

BATCH = 8
HOSTS = range(1, 9)


class Numbers:
  """A data source whose captions are numbers; the frames of clip i are as wide as `widths` says."""

  def __init__(self, first, lengths, widths):
    self.first, self.lengths, self.widths = first, lengths, widths

  def __len__(self):
    return sum(self.lengths)

  def draw(self, i, rng):
    i = int(i)
    width = np.repeat(self.widths, self.lengths)[i]
    video = rng.integers(0, 256, (1, 2, width, 3), np.uint8)
    return {'video': video, 'caption': str(self.first + i)}

  @property
  def parts(self):
    ends = np.cumsum(self.lengths).tolist()
    spans = map(range, [0, *ends], ends)
    share = lambda n: Fraction(n, len(self))
    return [
      Part(self, span, share(len(span)), width) for span, width in zip(spans, self.widths) if span
    ]


CLIPS, IMAGES, ONE_SHAPE = (
  Numbers(0, [11, 5, 7], [3, 4, 5]),
  Numbers(100, [4, 0, 9], [3, 4, 5]),
  Numbers(200, [13], [3]),
)
SOURCES = {
  'one part': ONE_SHAPE,
  'buckets': CLIPS,
  'mixture': mixed([ONE_SHAPE, Numbers(0, [5], [3])], [0.7, 0.3]),
  'mixture in buckets': mixed([CLIPS, IMAGES, ONE_SHAPE], [3, 0.5, 2]),
}


def encode(captions):
  text = np.array([[[float(c)]] for c in captions], np.float32)
  return text, np.ones(text.shape[:2], bool)


def taken(source, count, hosts=1, done=0):
  """So many batches from number `done` on, of each the parts that the hosts read."""
  streams = []
  for rows in np.array_split(range(BATCH), hosts):
    streams.append(pipeline.batches(source, encode, batch=BATCH, seed=3, rows=rows.tolist()))
    streams[-1].set_state({'batches': done})
  result = list(itertools.islice(zip(*streams), count))
  assert all(stream.get_state()['batches'] == done + count for stream in streams)
  for stream in streams:
    stream.close()
  return [{key: np.concatenate([b[key] for b in batch]) for key in batch[0]} for batch in result]


def numbers(batches):
  return np.concatenate([batch['text'][:, 0, 0] for batch in batches]).astype(int)


@pytest.fixture(scope='module')
def alone():
  """The batches that one host alone reads from each source."""
  return {name: taken(source, 40) for name, source in SOURCES.items()}


@pytest.mark.parametrize('hosts', HOSTS)
@pytest.mark.parametrize('name', SOURCES)
def test_batches_are_the_same_for_any_number_of_hosts_also_after_it_changes(alone, name, hosts):
  others = HOSTS[hosts % len(HOSTS)]
  got = taken(SOURCES[name], 3, hosts) + taken(SOURCES[name], 3, others, done=3)
  for one, other in zip(alone[name], got):
    for key in one:
      np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize('name', SOURCES)
def test_every_epoch_of_a_part_has_each_record_once_and_an_order_of_its_own(alone, name):
  read = numbers(alone[name])
  for part in parts(SOURCES[name]):
    records = part.source.first + np.array(part.examples)
    mine = read[np.isin(read, records)]
    epochs = [mine[i : i + len(records)] for i in range(0, len(mine), len(records))]
    assert len(epochs) > 2
    for epoch in epochs[:-1]:
      assert sorted(epoch) == records.tolist()
    assert len({tuple(epoch) for epoch in epochs[:-1]}) > 1
    assert len({*epochs[-1]}) == len(epochs[-1])  # an epoch that has begun repeats none


@pytest.mark.parametrize('name', SOURCES)
def test_a_batch_is_of_one_bucket_and_each_bucket_has_its_share(alone, name):
  source = SOURCES[name]
  widths = [batch['video'].shape[3] for batch in alone[name]]
  buckets = {part.source.first + i: part.bucket for part in parts(source) for i in part.examples}
  if len({*buckets.values()}) > 1:  # a source without `parts` is one bucket, 0
    for width, batch in zip(widths, alone[name], strict=True):
      assert {buckets[number] for number in numbers([batch])} == {width}
  for width, share in bucket_shares(parts(source)).items():
    for n in range(len(widths) + 1):
      assert abs(widths[:n].count(width) - share * n) <= 1.5


@pytest.mark.parametrize('weights', [(0.7, 0.3), (3, 0.5, 2), (1 / 3, 1e-2, 0.2, 5)])
@pytest.mark.parametrize('buckets', [1, 3])
def test_the_shares_of_a_mixture_are_its_weights(weights, buckets):
  sources = [
    Numbers(0, np.random.default_rng(i).integers(1, 99, buckets).tolist(), range(buckets))
    for i in range(len(weights))
  ]
  each = parts(mixed(sources, weights))
  order, counts, rows = Order.from_parts(each, BATCH), np.zeros(len(weights)), 0
  for number in range(300):
    for row in range(BATCH):
      part, _ = order.locate(number, row)
      counts[sources.index(each[part].source)] += 1
    rows += BATCH
    # A bucket may be a batch and a half ahead or behind.
    assert np.abs(counts - rows * np.array(weights) / sum(weights)).max() <= 3 * buckets * BATCH
  np.testing.assert_allclose(counts / rows, np.array(weights) / sum(weights), atol=0.01)


def test_turns_are_as_even_as_possible():
  rng = np.random.default_rng(0)
  for _ in range(20):
    shares = rng.integers(1, 30, rng.integers(1, 9)).tolist()
    total, before = sum(shares), [0] * len(shares)
    assert turns(shares, 0) == before
    for n in range(1, 2 * total + 1):
      now = turns(shares, n)
      assert sorted(b - a for a, b in zip(before, now)) == [0] * (len(shares) - 1) + [1]
      ideal = [Fraction(n * share, total) for share in shares]
      assert max(abs(a - b) for a, b in zip(now, ideal)) <= Fraction(len(shares), 2)
      before = now
    # Where all shares are whole, they are met: the epochs of all buckets end together.
    assert turns(shares, total) == shares
  assert [turns((3, 1), n) for n in range(5)] == [[0, 0], [1, 0], [2, 0], [2, 1], [3, 1]]


def test_any_batch_is_found_at_once():
  """As the turns are those of an earlier batch again, with the numbers of rows before added."""
  each = parts(SOURCES['mixture in buckets'])
  order = Order.from_parts(each, BATCH)
  unit = sum(map(sum, order.shares))  # batches after which all turns begin again
  far = unit * 10**9
  for number in range(50):
    for row in range(BATCH):
      part, place = order.locate(number, row)
      share = order.shares[each[part].bucket - 3][order.members[each[part].bucket - 3].index(part)]
      assert order.locate(far + number, row) == (part, place + 10**9 * BATCH * share)


def test_records_of_all_buckets_are_read_once_in_an_epoch_of_full_batches():
  source = Numbers(0, [2 * BATCH, BATCH, 4 * BATCH], [3, 4, 5])
  for epoch in (0, 5):
    read = numbers(taken(source, 7, done=7 * epoch))
    assert sorted(read) == list(range(7 * BATCH))


def test_parts_without_examples_are_refused():
  empty = Joined([Part(ONE_SHAPE, range(13)), Part(ONE_SHAPE, range(0))])
  for source in (empty, Joined([])):
    with pytest.raises(ValueError, match='without any example'):
      pipeline.batches(source, encode, batch=1, seed=0)
