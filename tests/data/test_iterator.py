"""The number of workers of an iterator of batches; `test_pipeline` has them killed."""

import itertools
import os

from data.iterator import Batches


def test_workers_are_added_up_to_the_cores_without_a_change_of_the_batches(monkeypatch):
  started = []

  class Iterator:
    def __init__(self, done, workers):
      started.append((done, workers))
      self._batches = itertools.count(done)

    def __next__(self):
      return {'number': next(self._batches)}

    def close(self):
      pass

  monkeypatch.setattr(os, 'sched_getaffinity', lambda process: {0, 2, 5})
  batches = Batches(Iterator, -1, {})
  taken = [next(batches), next(batches)]
  added = [batches.add_workers()]
  taken += [next(batches), next(batches)]
  added += [batches.add_workers(), batches.add_workers()]
  assert [batch['number'] for batch in [*taken, next(batches)]] == [0, 1, 2, 3, 4]
  assert added == [2, 3, 0]
  assert started == [(0, 1), (2, 2), (4, 3)]
  assert Batches(Iterator, 2, {}).add_workers() == 0  # the user chose
