"""Configs are put together from groups of keys, and lose none of them."""

import ast
import pathlib
import subprocess
import sys

import pytest

from configs import base
from configs.scales import at_scale, merge
from tests.test_configs import SCALES, STAGES, get_config, leaves

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


@pytest.mark.parametrize('stage', STAGES)
def test_the_error_for_an_unknown_scale_lists_the_scales_of_the_stage(stage):
  with pytest.raises(ValueError, match='scale') as error:
    get_config(stage, 'huge')
  allowed = ', '.join(sorted(SCALES[stage]))
  assert str(error.value) == f"Stage '{stage}' has no scale 'huge'; allowed are {allowed}."


def test_a_scale_changes_no_key_that_configs_do_not_have():
  with pytest.raises(ValueError, match=r"^Scale 'tiny' changes unknown keys: optm, step\.$"):
    at_scale(base.get_config(), 'tiny', {'tiny': {'optm': {}, 'step': 1, 'steps': 1}})


def test_a_config_is_made_anew_each_time():
  get_config('t2i', 'tiny').model.groups = 1
  assert get_config('t2i', 'tiny').model.groups != 1
  get_config('t2i', 'tiny').model.temporal = True
  assert get_config('t2i', 'tiny').model.temporal is False


def test_a_misspelt_key_ends_the_command_in_one_line(tmp_path):
  command = [sys.executable, 'train.py', '--config=configs/t2i.py', f'--workdir={tmp_path}/run']
  done = subprocess.run(
    [*command, '--config.model.grups=8'], cwd=ROOT, capture_output=True, text=True
  )
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith('error: Unknown config key --config.model.grups')
  assert done.stderr.count('\n') == 1
  assert not (tmp_path / 'run').exists()
