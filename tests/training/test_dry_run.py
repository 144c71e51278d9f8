import importlib
import math

import jax
import numpy as np
import pytest

from configs import base
from core.params import names
from core.sharding import make_mesh
from pipelines.stages import open_stage
from tests import states
from training import dry_run
from training.plan import make_plan
from training.ranges import require_in_range
from training.start import require_parent

FULL_SIZE = ['distill:paper', 'distill:paper_ssr', 'ssr:if_l', 'ssr:paper', 'ssr_image:paper',
             't2i:paper', 't2v:if_xl', 't2v:paper', 't2v_masked:paper']  # fmt: skip


def config(name):
  stage, scale = name.split(':')
  return importlib.import_module(f'configs.{stage}').get_config(scale)


@pytest.mark.parametrize('name', FULL_SIZE)
def test_a_narrow_network_has_the_structure_and_the_mesh_of_the_whole_one(name):
  whole, narrow = config(name), dry_run.narrowed(config(name), 8)
  require_in_range(narrow)
  assert narrow.mesh == whole.mesh
  assert narrow.loader == whole.loader
  assert narrow.data.frames == whole.data.frames
  whole.text.update(source='hashed')
  mesh = make_mesh(whole.mesh)
  plans = [make_plan(c, mesh, open_stage) for c in (whole, narrow)]
  large, small = (names(plan.params) for plan in plans)
  assert large.keys() == small.keys()
  size = lambda shapes: sum(math.prod(x.shape) for x in shapes.values())
  assert size(small) < size(large) / 100
  split = [x for x in small.values() if x.sharding.shard_shape(x.shape) != x.shape]
  assert size({i: x for i, x in enumerate(split)}) > size(small) / 2


@pytest.mark.parametrize('name', ['t2v:tiny', 'distill:tiny'])
def test_a_parent_is_written_from_which_a_run_of_the_config_can_start(name, tmp_path):
  narrow = dry_run.narrowed(config(name), 1)
  dry_run.write_parent(narrow, open_stage, tmp_path / 'parent')
  require_parent(tmp_path / 'parent', narrow)


def test_states_differ_by_bits():
  state = states.state()
  leaves, tree = jax.tree.flatten(state)
  other = jax.tree.unflatten(tree, [np.array(x) for x in leaves])
  assert dry_run.differing(state, other) == []
  changed = np.array(leaves[-1])
  changed.reshape(-1)[:1] += 1
  other = jax.tree.unflatten(tree, [*map(np.array, leaves[:-1]), changed])
  assert len(dry_run.differing(state, other)) == 1


def test_every_key_that_a_dry_run_changes_is_one_of_a_config():
  narrow = dry_run.narrowed(config('t2v:paper'), 4)
  assert narrow.keys() == base.get_config().keys()
