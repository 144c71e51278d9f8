import json

import numpy as np
import pytest

from evaluation.protocol import (
  ABSENT,
  compare,
  differences,
  flatten,
  format_cell,
  read_score,
  write_score,
)

PROTOCOL = {'clips': 40, 'sampling': {'steps': 25, 'guidance': 3.0}, 'size': (32, 32)}


def score(videos, value=1.0, metric='fvd', **changes):
  return {'metric': metric, 'of': videos, 'score': {metric: value}, 'protocol': PROTOCOL | changes}


def test_a_score_is_read_as_it_was_written_with_sorted_keys(tmp_path):
  path = tmp_path / 'a.json'
  result = {'b': np.float32(0.5), 'a': {'y': 2, 'x': float('inf')}}
  write_score(path, 'fvd', 'the model', result, PROTOCOL, videos=[{'z': np.arange(2)}])
  text = path.read_text()
  expected = {
    'metric': 'fvd',
    'of': 'the model',
    'protocol': {'clips': 40, 'sampling': {'guidance': 3.0, 'steps': 25}, 'size': [32, 32]},
    'score': {'a': {'x': None, 'y': 2}, 'b': 0.5},
    'videos': [{'z': [0, 1]}],
  }
  assert text == json.dumps(expected, indent=2, sort_keys=True) + '\n'
  assert read_score(path) == expected
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  ('result', 'protocol', 'message'),
  [
    ({}, PROTOCOL, 'Got an empty score of fvd; allowed is one number or more'),
    ({'a': {'b': 'high'}}, PROTOCOL, "The score a.b of fvd is 'high'; allowed is a number"),
    ({'a': 1}, {'f': {1, 2}}, 'Got {1, 2}, a set; allowed in a score is what JSON has'),
  ],
)
def test_what_is_no_score_is_not_written(tmp_path, result, protocol, message):
  with pytest.raises(ValueError, match=message):
    write_score(tmp_path / 'a.json', 'fvd', 'x', result, protocol)
  assert not list(tmp_path.iterdir())


def test_an_older_score_is_named_by_its_file(tmp_path):
  path = tmp_path / 'shapes.json'
  path.write_text('{"score": {"colour": 1}, "protocol": {}}')
  result = read_score(path)
  assert (result['metric'], result['of']) == ('shapes', 'shapes')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"score', 'a.json is not JSON: '),
    ('[1]', 'a.json is not a JSON object'),
    ('{"score": {"a": 1}}', "a.json is no score: it has no 'protocol' with names and values"),
    ('{"protocol": {}, "score": 1}', "a.json is no score: it has no 'score' with names"),
  ],
)
def test_what_is_no_score_is_not_read(tmp_path, text, message):
  path = tmp_path / 'a.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=message):
    read_score(path)


def test_nested_keys_are_joined_with_dots():
  assert flatten({'a': {'b': {'c': 1}, 'd': {}}, 'e': [{'f': 1}]}) == {
    'a.b.c': 1,
    'a.d': {},
    'e': [{'f': 1}],
  }


def test_what_json_has_as_equal_does_not_differ():
  same = {'size': [32, 32.0], 'clips': 40.0, 'sampling': {'guidance': 3, 'steps': np.int64(25)}}
  assert differences([PROTOCOL, same]) == {}
  assert differences([PROTOCOL]) == differences([]) == {}


def test_what_differs_is_reported_by_key_with_each_protocols_value():
  other = {'clips': 40, 'sampling': {'steps': 50, 'guidance': 3.0, 'sampler': None}}
  assert differences([PROTOCOL, other, PROTOCOL]) == {
    'sampling.sampler': [ABSENT, None, ABSENT],
    'sampling.steps': [25, 50, 25],
    'size': [[32, 32], ABSENT, [32, 32]],
  }


def test_true_is_not_one():
  assert differences([{'a': True}, {'a': 1}]) == {'a': [True, 1]}


def rows(scores):
  (comparison,) = compare(scores)
  return [(row.subject, row.score, row.protocol, row.marked) for row in comparison.rows]


def test_one_protocol_needs_no_mark():
  scores = [score('a'), score('b', 1234.56)]
  assert rows(scores) == [('a', {'fvd': 1.0}, {}, False), ('b', {'fvd': 1234.56}, {}, False)]
  assert compare(scores)[0].footnote == ''


def test_another_protocol_is_marked_and_what_differs_is_a_column():
  scores = [score('a'), score('b', clips=8), score('c')]
  assert rows(scores) == [
    ('a', {'fvd': 1.0}, {'clips': 40}, False),
    ('c', {'fvd': 1.0}, {'clips': 40}, False),
    ('b', {'fvd': 1.0}, {'clips': 8}, True),
  ]
  (comparison,) = compare(scores)
  assert (comparison.names, comparison.keys) == (('fvd',), ('clips',))
  assert comparison.footnote.startswith('† has another protocol than the first row: clips differ.')


def test_metrics_have_tables_of_their_own_and_do_not_mark_one_another():
  scores = [score('a'), score('a', metric='clip', clips=8), score('b')]
  first, second = compare(scores)
  assert [row.subject for row in first.rows] == ['a', 'b']
  assert (second.metric, len(second.rows), second.keys) == ('clip', 1, ())
  assert not any(row.marked for comparison in (first, second) for row in comparison.rows)


def test_a_comparison_has_the_names_of_all_scores():
  one, other = score('a'), score('d') | {'score': {'shape': {'red': float('nan')}}}
  (comparison,) = compare([one, other])
  assert comparison.names == ('fvd', 'shape.red')
  assert comparison.rows[1].score == {'shape.red': None}


def test_cells_are_short():
  values = [None, 'a', 0.123456, 12345.6, 3, True, [1, 'x']]
  assert list(map(format_cell, values)) == ['null', 'a', '0.1235', '12346', '3', 'true', '[1, "x"]']
