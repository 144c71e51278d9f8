"""The model of a workdir, read while a run goes on in it; and what is logged of errors."""

import asyncio
import gc
import logging
import shutil

import pytest
from ml_collections import ConfigDict

from pipelines.checkpoints import find_base
from tests.states import same, saved, state
from training import arrays, checkpoint, integrity

CONFIG = {'stage': 't2v', 'steps': 10, 'data': {'frames': 4}, 'sampling': {'steps': 2}}


def test_a_model_is_that_of_one_step_also_where_a_run_goes_on(tmp_path):
  config = ConfigDict(CONFIG)
  checkpoint.save_config(tmp_path, config)
  saved(tmp_path, state(seed=1, step=1))
  base = find_base(tmp_path)
  before = base.made_by(0)
  saved(tmp_path, state(seed=2, step=2))
  assert base.made_by(0) == before
  assert before['model'] == f'{tmp_path.name} step 1'
  same(base.load(), state(1).ema)


@pytest.mark.parametrize('gone', ['ema', '.', 'seen'])
def test_one_that_a_run_removes_at_that_moment_is_not_called_damaged(
  tmp_path, monkeypatch, capsys, gone
):
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  saved(tmp_path, state(seed=1, step=1))
  listed, path = integrity._list_files, tmp_path / 'checkpoints/1'

  def removed(folder):
    if folder == path and path.exists():
      saved(tmp_path, state(seed=2, step=2))
      monkeypatch.setattr(integrity, '_list_files', listed)
      shutil.rmtree(path / gone if gone == 'ema' else path)
      if gone == 'seen':  # in its listing
        raise FileNotFoundError(2, 'No such file or directory', str(path / 'ema'))
    return listed(folder)

  monkeypatch.setattr(integrity, '_list_files', removed)
  assert checkpoint.load(tmp_path)[2] == 2
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize('gone', ['ema', 'ema/d', 'ema/_METADATA', 'ema/manifest.ocdbt', '.'])
def test_a_model_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, gone):
  """As while a run that goes on removes it, or before its files are listed."""
  saved(tmp_path, state(step=1))
  checkpoint.save_config(tmp_path, ConfigDict(CONFIG))
  read, path = arrays.read, tmp_path / 'checkpoints/1'

  def removed(*args, **options):
    target = path / gone
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return read(*args, **options)

  monkeypatch.setattr(arrays, 'read', removed)
  with pytest.raises(ValueError, match=r'^The model in|was removed while') as error:
    checkpoint.load(tmp_path)
  assert '\n' not in str(error.value)
  assert path.exists() == (gone != '.')
  if gone in ('.', 'ema'):
    assert str(error.value) == f'{path}/ema was removed while it was read: try again.'
  else:
    assert str(error.value).startswith(f'The model in {tmp_path}, step 1, cannot be read: ')
    shutil.copytree(path, tmp_path / 'checkpoints/2')  # a later one: the run goes on
    (path / 'ema').mkdir(exist_ok=True)
    monkeypatch.setattr(arrays, 'read', read)
    with pytest.raises(ValueError, match=r'1/ema was removed while it was read: try again\.$'):
      checkpoint.load(tmp_path, step=1)


def test_an_error_that_orbax_raises_is_not_logged_for_every_array(caplog):
  """It awaits the first that fails; asyncio tells of the others when they are collected."""

  async def write():
    raise OSError('full')

  async def save():
    first, *_ = [asyncio.ensure_future(write()) for _ in range(3)]
    future = asyncio.get_running_loop().create_future()
    future.set_exception(OSError('full'))
    with pytest.raises(OSError, match='full'):
      await first

  gc.collect()
  caplog.clear()  # of what other tests have left
  asyncio.run(save())
  gc.collect()
  logging.getLogger('asyncio').error('something else')
  assert caplog.messages == ['something else']
