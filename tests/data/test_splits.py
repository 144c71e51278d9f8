"""Clips of one source video are all in training or all in validation."""

import collections

import pytest

from data import splits


def assign(given, sources, validation):
  """The split of each clip."""
  assigned = splits.assigned(zip(given, sources, strict=True), validation)
  return [assigned.split(split, source) for split, source in zip(given, sources)]


NAMES = [f'video {i}' for i in range(2000)]


def held_out(sources, validation):
  result = assign([None] * len(sources), sources, validation)
  return {source for source, split in zip(sources, result) if split == 'validation'}


@pytest.mark.parametrize('validation', [0.01, 0.05, 0.5])
def test_about_the_fraction_of_sources_is_held_out(validation):
  # Four standard deviations of a binomial distribution.
  spread = 4 * (validation * (1 - validation) / len(NAMES)) ** 0.5
  assert len(held_out(NAMES, validation)) / len(NAMES) == pytest.approx(validation, abs=spread)


def test_a_source_stays_where_it_is_when_others_come():
  assert held_out(NAMES[:500], 0.1) == held_out(NAMES, 0.1) & set(NAMES[:500])


@pytest.mark.parametrize('count', [2, 3, 10])
def test_of_few_sources_one_is_held_out_and_one_is_not(count):
  for validation in (1e-9, 0.05, 0.999999):
    assert 1 <= len(held_out(NAMES[:count], validation)) < count


@pytest.mark.parametrize(
  ('named', 'validation', 'most'),
  [
    ([None] * 7, 0.0, {'train': 7}),
    ([None] * 7, 0.1, {'validation': 3}),
    ([None], 0.1, {'validation': 1}),
    (['train'] * 5 + ['test'] * 2, 0.0, {'train': 5, 'test': 2}),
    (['train'] * 5 + ['test'] * 2 + [None] * 3, 0.3, {'train': 8, 'test': 5}),
  ],
)
def test_the_most_clips_that_a_split_can_have(named, validation, most):
  assert splits.max_clips(named, validation) == most
  if len(named) > 1:  # whatever the sources are
    for count in (2, 3, 7, 10):
      sources = [f'{split} {i % count}' for i, split in enumerate(named)]
      result = collections.Counter(assign(named, sources, validation))
      assert min(result.values()) <= min(most.values())


def test_all_clips_of_a_source_are_in_one_split():
  sources = [f'video {i % 40}' for i in range(200)]
  result = assign([None] * 200, sources, 0.2)
  assert set(result) == {'train', 'validation'}
  assert not splits.assigned(zip(result, sources), 0.0).conflicts


def test_a_split_of_the_captions_wins_and_is_that_of_its_source():
  given = ['test', None, 'validation', None, 'train', None, None]
  sources = ['a', 'a', 'b', 'b', 'c', 'c', 'd']
  for validation in (0.0, 0.999):
    result = assign(given, sources, validation)
    assert result == ['test', 'test', 'validation', 'validation', 'train', 'train', 'train']
  given[1] = 'train'
  result = assign(given, sources, 0.0)
  assert result[:2] == ['test', 'train']
  assert splits.assigned(zip(given, sources), 0.0).conflicts.keys() == {'a'}


def test_without_a_fraction_all_is_trained_on():
  assert collections.Counter(assign([None] * 5, NAMES[:5], 0.0)) == {'train': 5}


@pytest.mark.parametrize(
  ('given', 'sources', 'count'),
  [([None], ['a'], 1), ([None, None], ['a', 'a'], 1), (['train', 'test'], ['a', 'b'], 0)],
)
def test_where_nothing_can_be_held_out_that_is_reported(given, sources, count):
  with pytest.raises(ValueError, match=f'--validation=0.1, but to hold one out, .*; got {count}'):
    assign(given, sources, 0.1)
