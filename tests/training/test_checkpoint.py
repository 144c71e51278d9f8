import json
import math
import shutil

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

from core.params import merge
from tests.states import Data, restored, same, saved, state, unheard
from training import checkpoint, integrity
from training.export import write_model
from training.sharding import fsdp, make_mesh
from training.state import State

CONFIG = {
  'steps': 10, 'keep': 2, 'mesh': [['data', -1]], 'shard_above': 4, 'save_every': 5,
  'model': {'channels': [8, 16]}, 'seed': 0,
}  # fmt: skip


def test_what_is_restored_is_what_was_saved_on_any_mesh(tmp_path):
  want = state()
  before = make_mesh((('data', 4), ('fsdp', 2)))
  saved(tmp_path, jax.device_put(want, fsdp(want, before, 4)), data=Data(41))

  after = make_mesh((('data', 1), ('fsdp', 4)), jax.devices()[:4])
  shardings = fsdp(want, after, 4)
  data = Data(0)
  with checkpoint.manager(tmp_path) as checkpoints:
    got = checkpoint.restore(checkpoints, jax.device_put(state(1), shardings), data, unheard)
  same(got, want)
  assert data.position == 41
  assert jax.tree.map(lambda x: x.sharding, got) == shardings
  kernel = got.params['unit']['temporal_conv0']['kernel']
  assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 16)}


def test_a_state_may_be_given_away_while_it_is_saved(tmp_path):
  """A step donates the state, so saving, which goes on behind it, must have its own copy."""
  want = state()
  given = jax.tree.map(jnp.copy, want)
  overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
  with checkpoint.manager(tmp_path) as checkpoints:
    checkpoint.save(checkpoints, given, Data(0))
    jax.block_until_ready(overwrite(given))
  with checkpoint.manager(tmp_path) as checkpoints:
    same(checkpoint.restore(checkpoints, state(1), Data(0), unheard), want)


def test_the_last_are_kept_and_the_latest_is_restored(tmp_path):
  saved(tmp_path, *(state(seed=i, step=i) for i in (1, 2, 3)), keep=2)
  folders = sorted(p.name for p in (tmp_path / 'checkpoints').iterdir())
  assert folders == ['2', '3']
  with checkpoint.manager(tmp_path) as checkpoints:
    same(checkpoint.restore(checkpoints, state(9), Data(0), unheard), state(3, step=3))


def test_without_a_checkpoint_nothing_changes(tmp_path):
  data, want = Data(7), state()
  with checkpoint.manager(tmp_path) as checkpoints:
    assert checkpoint.restore(checkpoints, want, data, unheard) is want
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


@pytest.mark.parametrize('axes', [(('data', 4), ('fsdp', 2)), (('fsdp', 4), ('time', 2))])
def test_a_model_is_loaded_in_the_shards_of_any_mesh(tmp_path, axes):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  saved(tmp_path, jax.device_put(state(), fsdp(state(), make_mesh((('fsdp', 8),)), 4)))
  place = lambda shapes: fsdp(shapes, make_mesh(axes), 4)
  _, params, _ = checkpoint.load(tmp_path, place)
  same(params, state().ema)
  assert jax.tree.map(lambda p: p.sharding, params) == place(params)


def test_an_array_is_saved_in_chunks_so_that_a_shard_is_read_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(checkpoint, 'CHUNK_BYTES', 2**10)
  large = {'kernel': jnp.arange(2.0**14).reshape(2, 2**13)}
  saved(tmp_path / 'run', State(jnp.int32(3), large, large, {}, {}))
  checkpoint.keep_frozen(tmp_path / 'run', large)
  write_model(tmp_path / 'model', ConfigDict(CONFIG), large, 3)
  for path in ('run/checkpoints/3/ema', 'run/checkpoints/3/train', 'run/frozen',
               'model/checkpoints/3/ema'):  # fmt: skip
    with ocp.StandardCheckpointer() as checkpointer:
      tree = checkpointer.metadata(tmp_path / path).item_metadata.tree
    stored = tree.get('params', tree)['kernel'].storage
    assert math.prod(stored.chunk_shape) * 4 <= 2**10, path


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
  within = CONFIG | {'model': CONFIG['model'] | {'temporal': False}}
  checkpoint.save_config(tmp_path, ConfigDict(within))
  assert checkpoint.load_config(tmp_path).to_dict() == within
  within['model']['temporal'] = True
  with pytest.raises(ValueError, match='another config: model differ'):
    checkpoint.save_config(tmp_path, ConfigDict(within))


def test_how_a_run_is_scored_may_change_and_come_later(tmp_path):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  for scores in ({'videos': 8}, {'videos': 9}):
    checkpoint.save_config(tmp_path, ConfigDict(CONFIG | {'scores': scores, 'evaluate_clips': 64}))
    assert checkpoint.load_config(tmp_path).scores.to_dict() == scores


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


def files(folder):
  return sorted(p.relative_to(folder) for p in folder.rglob('*') if p.is_file())


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  """A workdir with two whole checkpoints, 1 and 2."""
  path = tmp_path_factory.mktemp('two')
  saved(path, *(state(seed=i, step=i) for i in (1, 2)))
  return path


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))


DAMAGE = {
  'truncated': lambda path: path.write_bytes(path.read_bytes()[:-1]),
  'emptied': lambda path: path.write_bytes(b''),
  'removed': lambda path: path.unlink(),
  'flipped': flip,
}


@pytest.mark.parametrize('how', DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(two, tmp_path, how):
  """Any of its files, one at a time."""
  for i, name in enumerate(files(two / 'checkpoints/2')):
    path = two / 'checkpoints/2' / name
    changed = how == 'removed' or path.stat().st_size
    if not changed or (how == 'removed' and name.name == integrity.FILES):
      continue  # without the list, the digest tells
    workdir = tmp_path / str(i)
    shutil.copytree(two, workdir)
    DAMAGE[how](workdir / 'checkpoints/2' / name)
    step, (told,) = restored(workdir)
    assert step == 1, name
    assert f'{workdir}/checkpoints/2 is damaged: ' in told
    assert str(name) in told
    assert [p.name for p in (workdir / 'checkpoints').iterdir()] == ['1']
    assert len(files(next((workdir / 'damaged').iterdir()))) >= len(files(path.parents[0])) - 1


def test_a_model_of_damaged_checkpoints_is_that_of_the_last_whole_one(two, tmp_path, capsys):
  shutil.copytree(two, tmp_path, dirs_exist_ok=True)
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  flip(tmp_path / 'checkpoints/2/ema/_METADATA')
  _, params, step = checkpoint.load(tmp_path)
  assert step == 1
  same(params, state(1).ema)
  assert 'checkpoints/2 is damaged: ema/_METADATA has another checksum.  1 is used.' in (
    capsys.readouterr().err
  )
  flip(tmp_path / 'checkpoints/1/ema/_METADATA')
  with pytest.raises(ValueError, match='holds only damaged checkpoints'):
    checkpoint.load(tmp_path)


def test_arrays_that_are_not_what_was_saved_are_found_where_files_are_not_listed(two, tmp_path):
  """As after a kill between the end of a save and the list of its files."""
  shutil.copytree(two, tmp_path, dirs_exist_ok=True)
  for step in '12':
    (tmp_path / 'checkpoints' / step / integrity.FILES).unlink()
  assert restored(tmp_path) == (2, [])
  digest = tmp_path / 'checkpoints/2/digest/metadata'
  numbers = json.loads(digest.read_text())
  numbers['params/unit/temporal_conv0/kernel'] ^= 1
  digest.write_text(json.dumps(numbers))
  step, (told,) = restored(tmp_path)
  assert step == 1
  assert '1 arrays differ from what was saved: params/unit/temporal_conv0/kernel' in told


def test_a_folder_that_is_no_checkpoint_is_told_of_and_stays(two, tmp_path):
  shutil.copytree(two, tmp_path, dirs_exist_ok=True)
  (tmp_path / 'checkpoints/2').rename(tmp_path / 'checkpoints/two')
  step, (told,) = restored(tmp_path)
  assert step == 1
  assert told == f'{tmp_path}/checkpoints/two is not a whole checkpoint; it is not used.'


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(two, tmp_path):
  shutil.copytree(two, tmp_path, dirs_exist_ok=True)
  for step in '12':
    flip(tmp_path / f'checkpoints/{step}/train/_METADATA')
  with pytest.raises(ValueError, match=r'All checkpoints of .* are damaged: see .*/damaged'):
    restored(tmp_path)


def test_what_a_checkpoint_has_and_the_run_has_not_is_listed(two):
  other = state()
  other = other.replace(params={'unit': {'spatial': other.params['unit']['temporal_conv0']}})
  with checkpoint.manager(two) as checkpoints:
    with pytest.raises(ValueError, match='is not of this config') as error:
      checkpoint.restore(checkpoints, other, Data(0), unheard)
  assert 'Not saved: params/unit/spatial/bias, params/unit/spatial/kernel.' in str(error.value)
  assert 'Saved alone: params/unit/temporal_conv0/bias, params/unit/temp' in str(error.value)


def test_the_last_the_best_and_those_of_every_so_many_steps_are_kept(tmp_path):
  losses = [5.0, 1.0, 4.0, 3.0, 6.0, 7.0, 8.0]
  with checkpoint.manager(tmp_path, keep=2, keep_every=4, keep_best=1) as checkpoints:
    for step, loss in enumerate(losses, start=1):
      checkpoint.save(checkpoints, state(step, step=step), Data(step), loss)
      checkpoint.finish(checkpoints)
  assert checkpoint.steps(tmp_path) == [7, 6, 4, 2]
