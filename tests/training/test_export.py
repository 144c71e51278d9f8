from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from core.params import names
from training import checkpoint, resume
from training.export import export
from training.state import State

TRAINED = {'temporal': {'kernel': jnp.linspace(-1.0, 1.0, 12).reshape(3, 4)}}
FROZEN = {'spatial': {'bias': jnp.arange(3.0) / 3}}


class Position(Iterator):
  """Stands for the data."""

  def __next__(self):
    raise StopIteration

  def get_state(self):
    return {'batches': 5}


@pytest.fixture
def workdir(tmp_path):
  """A run of two parameters, one of them frozen, whose average differs from its last value."""
  workdir = tmp_path / 'run'
  state = State.create(TRAINED, optax.adam(1.0)).replace(step=jnp.int32(7))
  state = state.replace(ema=jax.tree.map(lambda p: p / 2, TRAINED))
  checkpoint.save_config(workdir, ConfigDict({'steps': 7}))
  resume.save_frozen(workdir, FROZEN)
  with checkpoint.manager(workdir) as checkpoints:
    checkpoint.save(checkpoints, state, Position())
  return workdir


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float32', 0.0), ('bfloat16', 2**-8)])
def test_what_is_exported_is_what_is_sampled(workdir, tmp_path, dtype, tolerance):
  assert export(workdir, tmp_path / 'out', dtype) == '15 parameters, step 7'
  config, params, step = checkpoint.load(tmp_path / 'out')
  _, known, _ = checkpoint.load(workdir)
  assert (config.steps, step) == (7, 7)
  np.testing.assert_array_equal(names(known)['temporal/kernel'], TRAINED['temporal']['kernel'] / 2)
  assert names(params).keys() == names(known).keys()
  for name, value in names(known).items():
    assert names(params)[name].dtype == jnp.float32
    np.testing.assert_allclose(names(params)[name], value, rtol=tolerance, atol=0)
  assert not [p for p in (tmp_path / 'out').rglob('*') if p.name in ('train', 'data')]


def test_nothing_is_written_over_and_nothing_half_written(workdir, tmp_path):
  (tmp_path / 'there').mkdir()
  with pytest.raises(ValueError, match='there exists already; --out is a new folder'):
    export(workdir, tmp_path / 'there', 'float32')
  with pytest.raises(ValueError, match='nowhere is not a workdir'):
    export(tmp_path / 'nowhere', tmp_path / 'out', 'float32')
  assert sorted(p.name for p in tmp_path.iterdir()) == ['run', 'there']


def test_what_is_exported_does_not_say_where_it_was_saved(workdir, tmp_path):
  export(workdir, tmp_path / 'out', 'float32')
  files = [path for path in (tmp_path / 'out').rglob('*') if path.is_file()]
  assert files
  assert not [path for path in files if str(tmp_path).encode() in path.read_bytes()]
