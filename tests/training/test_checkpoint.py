import errno
import json
import math
import shutil
from unittest import mock

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest
from ml_collections import ConfigDict

from core import folder
from core.params import TEACHER, merge
from core.sharding import fsdp, make_mesh
from tests.states import Data, flip, no_messages, same, saved, state
from training import arrays, checkpoint, resume
from training.export import write_model
from training.state import State

CONFIG = {
  'steps': 10, 'keep': 2, 'mesh': [['data', -1]], 'shard_above': 4, 'save_every': 5,
  'model': {'channels': [8, 16]}, 'seed': 0,
}  # fmt: skip


def test_a_state_may_be_given_away_while_it_is_saved(tmp_path):
  """A step donates the state, so saving, which goes on behind it, must have its own copy."""
  want = state()
  given = jax.tree.map(jnp.copy, want)
  overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
  with checkpoint.manager(tmp_path) as checkpoints:
    checkpoint.save(checkpoints, given, Data(0))
    jax.block_until_ready(overwrite(given))
  same(resume.restore(tmp_path, state(1), Data(0), no_messages), want)


def test_a_disk_that_cannot_hold_it_is_said_before_anything_is_written(tmp_path, monkeypatch):
  size = sum(x.nbytes for x in jax.tree.leaves(vars(state())))
  with checkpoint.manager(tmp_path) as checkpoints:
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: (2**40, 2**40, size // 2 - 1))
    with pytest.raises(OSError, match=r'^A checkpoint could not be saved: The output takes'):
      checkpoint.save(checkpoints, state(step=1), Data(0))
    assert not list((tmp_path / 'checkpoints').iterdir())
    # A file system that does not know its size has none.
    for step, total, free in ((2, 2**40, size // 2), (3, 0, 0)):
      monkeypatch.setattr(shutil, 'disk_usage', lambda path, usage=(total, total, free): usage)
      checkpoint.save(checkpoints, state(step=step), Data(0))
      checkpoint.finish(checkpoints)
  assert checkpoint.steps(tmp_path) == [3, 2]


def test_the_last_are_kept_and_the_latest_is_restored(tmp_path):
  saved(tmp_path, *(state(seed=i, step=i) for i in (1, 2, 3)), keep=2)
  folders = sorted(p.name for p in (tmp_path / 'checkpoints').iterdir())
  assert folders == ['2', '3']
  same(resume.restore(tmp_path, state(9), Data(0), no_messages), state(3, step=3))


def test_a_model_is_the_averaged_parameters_with_the_frozen_ones(tmp_path):
  frozen = {'unit': {'spatial': {'kernel': jnp.arange(3.0)}}}
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  resume.save_frozen(tmp_path, frozen)
  mesh = make_mesh((('data', 4), ('fsdp', 2)))
  saved(tmp_path, jax.device_put(state(), fsdp(state(), mesh, 4)))
  config, params, step = checkpoint.load(tmp_path)
  assert (config.to_dict(), step) == (CONFIG, 3)
  same(params, merge(state().ema, frozen))


@pytest.mark.parametrize('others', [{}, {'unit': {'kernel': jnp.arange(3.0)}}])
def test_a_student_is_loaded_without_reading_its_teacher(tmp_path, others):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  resume.save_frozen(tmp_path, {TEACHER: {'kernel': jnp.ones(4)}, **others})
  saved(tmp_path, state())
  asked = []
  place = lambda shapes: asked.extend(shapes) or arrays.on_one_device(shapes)
  _, params, _ = checkpoint.load(tmp_path, place)
  same(params, merge(state().ema, others))
  assert {*asked} == {*others, *state().ema}


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
  monkeypatch.setattr(arrays, 'CHUNK_BYTES', 2**10)
  large = {'kernel': jnp.arange(2.0**14).reshape(2, 2**13)}
  saved(tmp_path / 'run', State(jnp.int32(3), large, large, {}, {}))
  resume.save_frozen(tmp_path / 'run', large)
  write_model(tmp_path / 'model', ConfigDict(CONFIG), large, 3)
  for path in ('run/checkpoints/3/ema', 'run/checkpoints/3/train', 'run/frozen',
               'model/checkpoints/3/ema'):  # fmt: skip
    with ocp.StandardCheckpointer() as checkpointer:
      tree = checkpointer.metadata(tmp_path / path).item_metadata.tree
    stored = tree.get('params', tree)['kernel'].storage
    assert math.prod(stored.chunk_shape) * 4 <= 2**10, path


def test_no_library_warns_of_a_model_that_is_whole(tmp_path, caplog):
  run, model = tmp_path / 'run', tmp_path / 'model'
  checkpoint.save_config(run, ConfigDict(CONFIG))
  saved(run, state())
  frozen = {'other': {'kernel': jnp.zeros(3)}}
  resume.save_frozen(run, frozen)
  write_model(model, ConfigDict(CONFIG), state().ema, 3)
  caplog.clear()
  with caplog.at_level('WARNING', 'absl'):
    for workdir in (run, model):
      checkpoint.load(workdir)
    resume.restore_frozen(run, frozen)
  assert not caplog.records


def test_the_config_is_written_and_read_back(tmp_path):
  checkpoint.save_config(tmp_path / 'new', ConfigDict(CONFIG))
  assert json.loads((tmp_path / 'new/config.json').read_text()) == CONFIG
  assert checkpoint.load_config(tmp_path / 'new').to_dict() == CONFIG


@pytest.mark.parametrize(('size', 'other'), [((16, 24), 8), (8, (16, 24))])
def test_a_size_of_frames_is_read_back_and_either_kind_replaces_it(tmp_path, size, other):
  for _ in range(2):  # the second is resumed
    checkpoint.save_config(tmp_path, ConfigDict(CONFIG | {'data': {'size': size}}))
  config = checkpoint.load_config(tmp_path)
  assert config.data.size == size
  config.data.update(size=other)
  assert config.data.size == other
  with pytest.raises(ValueError, match=r'another config: data\.size differ'):
    checkpoint.save_config(tmp_path, config)


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
  with pytest.raises(ValueError, match=r'another config: masks\.box, residual differ'):
    checkpoint.save_config(tmp_path, ConfigDict(CONFIG | {'masks': {'box': 1.0}, 'residual': True}))
  within = CONFIG | {'model': CONFIG['model'] | {'temporal': False}}
  checkpoint.save_config(tmp_path, ConfigDict(within))
  assert checkpoint.load_config(tmp_path).to_dict() == within
  within['model']['temporal'] = True
  with pytest.raises(ValueError, match=r'resumes it: --config.model.temporal=False\.'):
    checkpoint.save_config(tmp_path, ConfigDict(within))


@pytest.mark.parametrize('how', ['scores', 'sampling'])
def test_how_a_run_is_scored_and_samples_may_change_and_come_later(how, tmp_path):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  for value in ({'videos': 8}, {'videos': 9}):
    checkpoint.save_config(tmp_path, ConfigDict(CONFIG | {how: value, 'evaluate_clips': 64}))
    assert checkpoint.load_config(tmp_path)[how].to_dict() == value


def test_a_run_of_another_config_is_refused_and_kept(tmp_path):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  other = CONFIG | {'model': {'channels': [8]}, 'seed': 1, 'steps': 20}
  with pytest.raises(ValueError, match='another config') as error:
    checkpoint.save_config(tmp_path, ConfigDict(other))
  assert str(error.value) == (
    f'{tmp_path} holds a run of another config: model.channels, seed differ.  What resumes it: '
    "'--config.model.channels=[8, 16]' --config.seed=0.  Only keep, mesh, save_every, shard_above, "
    'steps may change; use another --workdir otherwise.'
  )
  assert checkpoint.load_config(tmp_path).to_dict() == CONFIG


def test_the_config_is_written_when_it_changes_and_in_one_go(tmp_path):
  path = tmp_path / 'config.json'
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  first = path.stat()
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  assert path.stat() == first
  with path.open() as before:
    checkpoint.save_config(tmp_path, ConfigDict(CONFIG | {'steps': 20}))
    assert json.load(before) == CONFIG  # the file that was there is as it was
  assert checkpoint.load_config(tmp_path).steps == 20
  assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_config_as_it_was(tmp_path, monkeypatch):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  full = mock.Mock(side_effect=OSError(errno.ENOSPC, 'No space left on device'))
  monkeypatch.setattr(folder.os, 'fsync', full)
  with pytest.raises(OSError, match=r'^Cannot write .*/config\.json: No space left on device\.$'):
    checkpoint.save_config(tmp_path, ConfigDict(CONFIG | {'steps': 20}))
  assert checkpoint.load_config(tmp_path).to_dict() == CONFIG
  assert [p.name for p in tmp_path.iterdir()] == ['config.json']


BROKEN = {
  b'': 'cannot be read: Expecting value: line 1 column 1 (char 0)',
  b'{"steps": 3, "mo': 'cannot be read: Unterminated string',
  b'steps = 3': 'cannot be read: Expecting value',
  b'[1, 2]': 'is no config, as it is not a JSON object',
  b'{"model": 3}': 'is no config, as it is not a JSON object of groups',
  b'\x00\xff\xfe\x80': 'cannot be read: ',
}


@pytest.mark.parametrize('text', BROKEN)
def test_a_broken_config_is_one_line_that_says_what_to_do(tmp_path, text):
  (tmp_path / 'config.json').write_bytes(text)
  for act in (
    lambda: checkpoint.load_config(tmp_path),
    lambda: checkpoint.load(tmp_path),
    lambda: checkpoint.check_config(tmp_path, ConfigDict(CONFIG)),
    lambda: checkpoint.save_config(tmp_path, ConfigDict(CONFIG)),
  ):
    with pytest.raises(ValueError, match=r'Copy it from elsewhere, or remove it: ') as error:
      act()
    assert f'{tmp_path}/config.json {BROKEN[text]}' in str(error.value)
    assert '\n' not in str(error.value)
  assert (tmp_path / 'config.json').read_bytes() == text


def test_progress_says_how_far_an_unfinished_run_has_come():
  config = ConfigDict({'steps': 25})
  assert [checkpoint.progress(config, n) for n in (0, 10, 25, 30)] == [
    'step 0', 'step 10 of 25', 'step 25', 'step 30'
  ]  # fmt: skip


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'has no config\.json, as train\.py writes one') as error:
    checkpoint.load(tmp_path / 'none')
  assert str(error.value).startswith(f'{tmp_path}/none is not a workdir: ')


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  with pytest.raises(ValueError, match='holds no checkpoint yet') as error:
    checkpoint.load(tmp_path)
  assert str(error.value) == f'{tmp_path} holds no checkpoint yet.'


def test_a_model_of_damaged_checkpoints_is_that_of_the_last_whole_one(tmp_path, capsys):
  saved(tmp_path, *(state(seed=i, step=i) for i in (1, 2)))
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


def test_the_last_the_best_and_those_of_every_so_many_steps_are_kept(tmp_path):
  losses = [5.0, 1.0, 4.0, 3.0, 6.0, 7.0, 8.0]
  with checkpoint.manager(tmp_path, keep=2, keep_every=4, keep_best=1) as checkpoints:
    for step, loss in enumerate(losses, start=1):
      checkpoint.save(checkpoints, state(step, step=step), Data(step), loss)
      checkpoint.finish(checkpoints)
  assert checkpoint.steps(tmp_path) == [7, 6, 4, 2]


def test_a_config_of_an_earlier_version_is_read_under_the_names_of_today(tmp_path):
  model = {'down_blocks': [1, 2], 'up_blocks': [2, 3], 'level_embedding': True}
  old = {'model': model, 'seed': 0}
  (tmp_path / 'config.json').write_text(json.dumps(old))
  config = checkpoint.load_config(tmp_path)
  model = {'down_units': [1, 2], 'up_units': [2, 3], 'noise_level_embedding': True}
  assert config.to_dict() == {'model': model, 'seed': 0}
