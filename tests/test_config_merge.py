"""Configs are put together from groups of keys, and lose none of them."""

import ast
import pathlib

import pytest

from configs.scales import merge
from tests.test_configs import leaves

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_merging_keeps_every_key_that_is_not_overridden():
  parts = (
    {'steps': 1, 'optim': {'name': 'adafactor', 'warmup': 5}, 'a': {'b': {'c': 1, 'd': 2}}},
    {'optim': {'learning_rate': 0.1}, 'data': {'size': 8}, 'a': {'b': {'d': 3}}},
    {'steps': 2, 'optim': {'warmup': 7}, 'data': {}, 'a': {'e': 4}},
  )
  before = [dict(leaves(part)) for part in parts]
  merged = merge(*parts)
  assert dict(leaves(merged)) == before[0] | before[1] | before[2]
  assert merged['optim'] == {'name': 'adafactor', 'warmup': 7, 'learning_rate': 0.1}
  merged['a']['b']['c'] = 0
  assert [dict(leaves(part)) for part in parts] == before  # which are copied, and not changed


@pytest.mark.parametrize('parts', [({'a': 1}, {'a': {'b': 1}}), ({'a': {'b': 1}}, {'a': 1})])
def test_a_group_of_keys_does_not_merge_with_a_value(parts):
  with pytest.raises(ValueError, match="'a' is a group of keys in one part and a value in another"):
    merge(*parts)


def test_configs_are_put_together_by_merge_alone():
  """Python's `|` and `{**a, **b}` would replace whole groups of keys, and lose some."""
  for path in (ROOT / 'configs').glob('*.py'):
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
      where = f'{path.name}:{getattr(node, "lineno", 0)}'
      assert not isinstance(getattr(node, 'op', None), ast.BitOr), where
      assert not (isinstance(node, ast.Dict) and None in node.keys), where
