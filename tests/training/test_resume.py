import json
import shutil
from unittest import mock

import jax
import jax.numpy as jnp
import optax
import pytest

from core.errors import UserError
from core.sharding import fsdp, make_mesh
from tests.states import TX, Data, flip, no_messages, restored, same, saved, state
from training import account, checkpoint, integrity, resume
from training.state import State


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  """A workdir with two complete checkpoints, 1 and 2."""
  path = tmp_path_factory.mktemp('two')
  saved(path, *(state(seed=i, step=i) for i in (1, 2)))
  return path


@pytest.fixture
def workdir(two, tmp_path):
  """A copy of it."""
  shutil.copytree(two, tmp_path, dirs_exist_ok=True)
  return tmp_path


def files(folder):
  """All that is in a folder, with what is in it."""
  return {p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_what_is_restored_is_what_was_saved_on_any_mesh(tmp_path):
  want = state()
  before = make_mesh((('data', 4), ('fsdp', 2)))
  saved(tmp_path, jax.device_put(want, fsdp(want, before, 4)), data=Data(41))

  after = make_mesh((('data', 1), ('fsdp', 4)), jax.devices()[:4])
  shardings = fsdp(want, after, 4)
  data, like = Data(0), resume.shapes(jax.device_put(state(1), shardings))
  got = resume.restore(tmp_path, like, data, no_messages)
  same(got, want)
  assert data.position == 41
  assert jax.tree.map(lambda x: x.sharding, got) == shardings
  kernel = got.params['unit']['temporal_conv0']['kernel']
  assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 16)}


def test_without_a_checkpoint_there_is_nothing_and_nothing_changes(tmp_path):
  assert restored(tmp_path) == (0, [])
  assert list(tmp_path.iterdir()) == []


DAMAGE = {
  'truncated': lambda path: path.write_bytes(path.read_bytes()[:-1]),
  'emptied': lambda path: path.write_bytes(b''),
  'removed': lambda path: path.unlink(),
  'flipped': flip,
}


@pytest.mark.parametrize('how', DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(two, tmp_path, how):
  """Any of its files, one at a time."""
  for i, (name, content) in enumerate(sorted(files(two / 'checkpoints/2').items())):
    if not (how == 'removed' or content) or (how == 'removed' and name.name == integrity.FILES):
      continue  # without the list, the digest tells
    workdir = tmp_path / str(i)
    shutil.copytree(two, workdir)
    DAMAGE[how](workdir / 'checkpoints/2' / name)
    step, (messages,) = restored(workdir)
    assert step == 1, name
    assert f'{workdir}/checkpoints/2 is damaged: ' in messages
    assert str(name) in messages
    assert [p.name for p in (workdir / 'checkpoints').iterdir()] == ['1']
    kept = files(next((workdir / 'damaged').iterdir()))
    assert len(kept) >= len(files(two / 'checkpoints/2')) - 1


def test_arrays_that_are_not_what_was_saved_are_found_where_files_are_not_listed(workdir):
  """As after a kill between the end of a save and the list of its files."""
  for step in '12':
    (workdir / 'checkpoints' / step / integrity.FILES).unlink()
  assert restored(workdir) == (2, [])
  digest = workdir / 'checkpoints/2/digest/metadata'
  numbers = json.loads(digest.read_text())
  numbers['params/unit/temporal_conv0/kernel'] ^= 1
  digest.write_text(json.dumps(numbers))
  step, (messages,) = restored(workdir)
  assert step == 1
  assert '1 arrays differ from what was saved: params/unit/temporal_conv0/kernel' in messages


def test_a_folder_that_is_no_checkpoint_is_logged_and_stays(workdir):
  (workdir / 'checkpoints/2').rename(workdir / 'checkpoints/two')
  step, (messages,) = restored(workdir)
  assert step == 1
  assert messages == f'{workdir}/checkpoints/two is not a complete checkpoint; it is not used.'


def test_a_run_whose_checkpoints_are_all_damaged_is_refused_every_time(workdir):
  for step in '12':
    flip(workdir / f'checkpoints/{step}/train/_METADATA')
  before = files(workdir)
  for _ in range(2):
    resume.require_checkpoints(workdir)
    with pytest.raises(ValueError, match=r'^All checkpoints in .* are damaged: 2: ') as error:
      restored(workdir)
    assert 'They are left there.' in str(error.value)
    assert files(workdir) == before
  step, messages = restored(workdir, start_over=True)
  assert (step, len(messages)) == (0, 2)
  assert sorted(p.name[:2] for p in (workdir / 'damaged').iterdir()) == ['1_', '2_']


def test_to_start_over_is_only_where_nothing_is_whole(workdir):
  """So the command that says so may be started again."""
  assert restored(workdir, start_over=True) == (2, [])


def wide(tree):
  """The shapes of a tree as JAX makes them where it has 64 bits."""
  wider = lambda x: jnp.float64 if x.dtype == jnp.float32 else x.dtype
  with jax.enable_x64(True):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, wider(x)), tree)


# Not of the kind of `state`: what another start may have, and a word of the line that tells.
KINDS = {
  'of 64 bits': (wide, 'Other types: ema/unit/temporal_conv0/bias is float32, not float64, '),
  'in half precision': (
    lambda s: s.replace(ema=jax.tree.map(lambda x: x.astype(jnp.bfloat16), s.ema)),
    'Other types: ema/unit/temporal_conv0/bias is float32, not bfloat16, ema/unit/',
  ),
  'of another optimizer': (
    lambda s: s.replace(opt=optax.adafactor(1.0).init(s.params)), 'Saved alone: opt/'
  ),
  'that accumulates': (
    lambda s: s.replace(opt=optax.MultiSteps(TX, 2).init(s.params)), 'Not saved: opt/'
  ),
  'of another shape': (
    lambda s: s.replace(ema=jax.tree.map(lambda x: x[:4], s.ema)),
    'Other shapes: ema/unit/temporal_conv0/bias is (16,), not (4,), ema/',
  ),
  'of other names': (
    lambda s: s.replace(params={'unit': {'spatial': s.params['unit']['temporal_conv0']}}),
    'Not saved: params/unit/spatial/bias, params/unit/spatial/kernel.  Saved alone: params/unit/t',
  ),
}  # fmt: skip


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('listed', [True, False])
def test_a_whole_checkpoint_of_another_kind_is_refused_and_nothing_moves(workdir, kind, listed):
  change, text = KINDS[kind]
  if not listed:
    for step in '12':
      (workdir / f'checkpoints/{step}' / integrity.FILES).unlink()
  before = files(workdir)
  with pytest.raises(ValueError, match=r'checkpoints/2 is not of this config') as error:
    resume.restore(workdir, change(state(9)), Data(0), no_messages)
  assert text in str(error.value)
  assert len(str(error.value)) < 1500
  assert ('JAX_ENABLE_X64 is False' in str(error.value)) == (kind == 'of 64 bits')
  assert files(workdir) == before


def test_another_kind_is_refused_before_what_is_damaged_is_moved(workdir):
  flip(workdir / 'checkpoints/2/train/_METADATA')
  before = files(workdir)
  with pytest.raises(ValueError, match=r'checkpoints/1 is not of this config'):
    resume.restore(workdir, wide(state(9)), Data(0), no_messages)
  assert files(workdir) == before


class OtherData(Data):
  def set_state(self, state):
    raise UserError('other data')


def test_other_data_is_refused_before_what_is_damaged_is_moved(workdir):
  flip(workdir / 'checkpoints/2/train/_METADATA')
  before = files(workdir)
  with pytest.raises(UserError, match='other data'):
    resume.restore(workdir, state(9), OtherData(0), no_messages)
  assert files(workdir) == before


@pytest.mark.parametrize(
  'error',
  [
    MemoryError('out of memory'),
    OSError(24, 'Too many open files'),
    PermissionError(13, 'Permission denied'),
    jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.'),
    ValueError('UNAVAILABLE: the server is away'),
  ],
)
def test_what_cannot_be_read_here_is_not_called_damaged(workdir, monkeypatch, error):
  monkeypatch.setattr(integrity, 'compare', mock.Mock(side_effect=error))
  before = files(workdir)
  with pytest.raises(ValueError, match=r'checkpoints/2 cannot be read here, and may be complete: '):
    restored(workdir)
  assert files(workdir) == before


def records(workdir, *lines):
  (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_a_run_that_has_saved_and_lost_its_checkpoints_is_refused(tmp_path):
  began, step, saved = (
    {'step': 0, 'started': 1.0},
    {'step': 7, 'loss': 1.0},
    {'step': 5, 'saved': 1},
  )
  records(tmp_path, began, step)
  resume.require_checkpoints(tmp_path)  # killed before it saved any
  for lines in ((began, saved, step), ({'step': 5, 'started': 1.0},)):
    records(tmp_path, *lines)
    with pytest.raises(
      ValueError, match=r'has saved step 5, and .*/checkpoints holds none'
    ) as error:
      resume.require_checkpoints(tmp_path)
    assert '--start_over' in str(error.value)
  records(tmp_path, began, saved, began)
  resume.require_checkpoints(tmp_path)  # it has started over, and was killed
  (tmp_path / 'damaged/5_20260101_000000').mkdir(parents=True)
  with pytest.raises(ValueError, match=r'has damaged checkpoints in .*/damaged, and'):
    resume.require_checkpoints(tmp_path)


def test_a_line_that_was_cut_short_hides_no_other(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(b'{"step": 5, "saved": 1.0}\n{"step": 6, "lo\n\xff\xfe\n[3]\n7\n')
  assert account.last_saved(path) == 5


def test_frozen_parameters_are_those_the_run_began_with(tmp_path):
  resume.save_frozen(tmp_path, {})
  assert resume.restore_frozen(tmp_path, {}) == {}
  assert list(tmp_path.iterdir()) == []
  mesh = make_mesh((('data', 4), ('fsdp', 2)))
  first, later = ({'kernel': k * jnp.arange(8.0)} for k in (1, 2))
  resume.save_frozen(tmp_path, later)
  (tmp_path / 'frozen.orbax-checkpoint-tmp-1').mkdir()  # of a run that was killed
  resume.save_frozen(tmp_path, first)  # one that begins again does so with what it begins with now
  assert [p.name for p in tmp_path.iterdir()] == ['frozen']
  later = jax.device_put(later, fsdp(later, mesh, 4))
  kept = resume.restore_frozen(tmp_path, resume.shapes(later))
  same(kept, first)
  assert kept['kernel'].sharding == later['kernel'].sharding


def test_a_run_does_not_go_on_without_its_frozen_parameters(tmp_path):
  frozen = {'kernel': jnp.arange(8.0)}
  with pytest.raises(ValueError, match=r'frozen, are not there or damaged: '):
    resume.restore_frozen(tmp_path, frozen)
  resume.save_frozen(tmp_path, frozen)
  with pytest.raises(ValueError, match=r'frozen is not of this config.*kernel is \(8,\), not \(4'):
    resume.restore_frozen(tmp_path, {'kernel': jnp.arange(4.0)})
  with pytest.raises(ValueError, match='kernel is float32, not bfloat16'):
    resume.restore_frozen(tmp_path, {'kernel': jnp.arange(8, dtype=jnp.bfloat16)})
  (tmp_path / 'frozen/_METADATA').write_bytes(b'')
  with pytest.raises(ValueError, match=r'frozen, are not there or damaged: '):
    resume.restore_frozen(tmp_path, frozen)


def test_a_state_is_restored_from_shapes_alone(workdir):
  like = resume.shapes(state(9))
  assert isinstance(like, State)
  assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(like))
  same(resume.restore(workdir, like, Data(0), no_messages), state(2, step=2))
  assert checkpoint.steps(workdir) == [2, 1]
