import json
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from core.params import merge
from training import checkpoint
from training.sharding import fsdp, make_mesh
from training.state import State

CONFIG = {
  'steps': 10, 'keep': 2, 'mesh': [['data', -1]], 'shard_above': 4, 'save_every': 5,
  'model': {'channels': [8, 16]}, 'seed': 0,
}  # fmt: skip
TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0, 1, 9)))


class Data(Iterator):
  """Stands for the data: it has a position."""

  def __init__(self, position):
    self.position = position

  def __next__(self):
    self.position += 1

  def get_state(self):
    return {'batches': self.position}

  def set_state(self, state):
    self.position = state['batches']


def state(seed=0, step=3, dtype='float32'):
  """One in which everything differs from everything else."""
  rng = np.random.default_rng(seed)
  shapes = {'unit': {'temporal_conv0': {'kernel': (8, 16), 'bias': (16,)}}}
  new = lambda shape: jnp.zeros(shape, dtype)
  params = jax.tree.map(new, shapes, is_leaf=lambda x: isinstance(x, tuple))
  random = lambda p: jnp.asarray(100 * rng.normal(size=p.shape), p.dtype)
  return jax.tree.map(random, State.create(params, TX)).replace(step=jnp.int32(step))


def same(a, b):
  """By bits: NaN and the sign of zero count."""

  def check(a, b):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()

  jax.tree.map(check, a, b)  # raises where the structures differ


def saved(workdir, *states, keep=None, data=None):
  with checkpoint.manager(workdir, keep=keep) as checkpoints:
    for s in states:
      checkpoint.save(checkpoints, s, data or Data(int(s.step)))


def test_what_is_restored_is_what_was_saved_on_any_mesh(tmp_path):
  want = state()
  before = make_mesh((('data', 4), ('fsdp', 2)))
  saved(tmp_path, jax.device_put(want, fsdp(want, before, 4)), data=Data(41))

  after = make_mesh((('data', 1), ('fsdp', 4)), jax.devices()[:4])
  shardings = fsdp(want, after, 4)
  data = Data(0)
  with checkpoint.manager(tmp_path) as checkpoints:
    got = checkpoint.restore(checkpoints, jax.device_put(state(1), shardings), data)
  same(got, want)
  assert data.position == 41
  assert jax.tree.map(lambda x: x.sharding, got) == shardings
  kernel = got.params['unit']['temporal_conv0']['kernel']
  assert {shard.data.shape for shard in kernel.addressable_shards} == {(8, 4)}


def test_a_state_may_be_given_away_while_it_is_saved(tmp_path):
  """A step donates the state, so saving, which goes on behind it, must have its own copy."""
  want = state()
  given = jax.tree.map(jnp.copy, want)
  overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
  with checkpoint.manager(tmp_path) as checkpoints:
    checkpoint.save(checkpoints, given, Data(0))
    jax.block_until_ready(overwrite(given))
  with checkpoint.manager(tmp_path) as checkpoints:
    same(checkpoint.restore(checkpoints, state(1), Data(0)), want)


def test_the_last_are_kept_and_the_latest_is_restored(tmp_path):
  saved(tmp_path, *(state(seed=i, step=i) for i in (1, 2, 3)), keep=2)
  folders = sorted(p.name for p in (tmp_path / 'checkpoints').iterdir())
  assert folders == ['2', '3']
  with checkpoint.manager(tmp_path) as checkpoints:
    same(checkpoint.restore(checkpoints, state(9), Data(0)), state(3, step=3))


def test_without_a_checkpoint_nothing_changes(tmp_path):
  data, want = Data(7), state()
  with checkpoint.manager(tmp_path) as checkpoints:
    assert checkpoint.restore(checkpoints, want, data) is want
  assert data.position == 7


def test_a_model_is_the_averaged_parameters_with_the_frozen_ones(tmp_path):
  frozen = {'unit': {'spatial': {'kernel': jnp.arange(3.0)}}}
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  checkpoint.keep_frozen(tmp_path, frozen)
  mesh = make_mesh((('data', 4), ('fsdp', 2)))
  saved(tmp_path, jax.device_put(state(), fsdp(state(), mesh, 4)))
  config, params, step = checkpoint.load(tmp_path)
  assert (config.to_dict(), step) == (CONFIG, 3)
  same(params, merge(state().ema, frozen))


def test_a_model_is_float32_whatever_it_was_saved_as(tmp_path):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  saved(tmp_path, state(dtype='bfloat16'))
  _, params, _ = checkpoint.load(tmp_path)
  want = state(dtype='bfloat16').ema
  same(params, jax.tree.map(lambda p: p.astype(jnp.float32), want))


def test_frozen_parameters_are_those_the_run_began_with(tmp_path):
  assert checkpoint.keep_frozen(tmp_path, {}) == {}
  assert not (tmp_path / 'frozen').exists()
  mesh = make_mesh((('data', 4), ('fsdp', 2)))
  first, later = ({'kernel': k * jnp.arange(8.0)} for k in (1, 2))
  same(checkpoint.keep_frozen(tmp_path, first), first)
  later = jax.device_put(later, fsdp(later, mesh, 4))
  kept = checkpoint.keep_frozen(tmp_path, later)
  same(kept, first)
  assert kept['kernel'].sharding == later['kernel'].sharding


def test_the_config_is_written_and_read_back(tmp_path):
  checkpoint.save_config(tmp_path / 'new', ConfigDict(CONFIG))
  assert json.loads((tmp_path / 'new/config.json').read_text()) == CONFIG
  assert checkpoint.load_config(tmp_path / 'new').to_dict() == CONFIG


def test_a_run_may_be_lengthened_and_moved_to_other_devices(tmp_path):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  change = {'steps': 20, 'mesh': [], 'shard_above': 1, 'keep': 9, 'save_every': 1}
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG | change))
  assert checkpoint.load_config(tmp_path).to_dict() == CONFIG | change


def test_a_run_goes_on_with_keys_that_came_later_and_are_at_nothing(tmp_path):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  later = CONFIG | {'masks': {}, 'residual': False}
  checkpoint.save_config(tmp_path, ConfigDict(later))
  assert checkpoint.load_config(tmp_path).to_dict() == later
  with pytest.raises(ValueError, match='another config: masks, residual differ'):
    checkpoint.save_config(tmp_path, ConfigDict(CONFIG | {'masks': {'box': 1.0}, 'residual': True}))


def test_a_run_of_another_config_is_refused_and_kept(tmp_path):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  other = CONFIG | {'model': {'channels': [8]}, 'seed': 1, 'steps': 20}
  with pytest.raises(ValueError, match='another config') as error:
    checkpoint.save_config(tmp_path, ConfigDict(other))
  assert str(error.value) == (
    f'{tmp_path} holds a run of another config: model, seed differ.  Only keep, mesh, save_every, '
    'shard_above, steps may change; use another --workdir otherwise.'
  )
  assert checkpoint.load_config(tmp_path).to_dict() == CONFIG


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'has no config\.json, as train\.py writes one') as error:
    checkpoint.load(tmp_path / 'none')
  assert str(error.value).startswith(f'{tmp_path}/none is not a workdir: ')


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  with pytest.raises(ValueError, match='holds no checkpoint yet') as error:
    checkpoint.load(tmp_path)
  assert str(error.value) == f'{tmp_path} holds no checkpoint yet.'
