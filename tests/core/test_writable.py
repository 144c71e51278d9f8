"""Which paths can be written, as root and as another user."""

import contextlib
import os
import pathlib
import shutil

import pytest

from core.writable import require_file, require_folder, require_room

NOBODY = 65534


def refusal(require, path):
  with pytest.raises(OSError, match=r'Cannot write') as error:
    require(path)
  return str(error.value)


def test_what_can_be_written_is_and_nothing_is_left(tmp_path):
  (tmp_path / 'there.png').write_text('old')
  (tmp_path / 'folder').mkdir()
  require_file(tmp_path / 'new.png')
  require_file(tmp_path / 'there.png')
  for name in ('folder', 'new', 'new/below/it'):
    require_folder(tmp_path / name)
  assert sorted(path.name for path in tmp_path.rglob('*')) == ['folder', 'there.png']
  assert (tmp_path / 'there.png').read_text() == 'old'


def test_what_cannot_be_written_is_said(tmp_path):
  file, loop, nowhere = (tmp_path / name for name in ('file', 'loop', 'nowhere'))
  file.touch()
  loop.symlink_to(loop)
  nowhere.symlink_to(tmp_path / 'none')
  long = 'n' * 250
  for require, path, reason in [
    (require_file, tmp_path, 'Is a directory'),
    (require_file, tmp_path / 'none' / 'a.png', 'No such file or directory'),
    (require_file, file / 'a.png', 'Not a directory'),
    (require_file, loop / 'a.png', 'Too many levels of symbolic links'),
    (require_file, tmp_path / long, 'File name too long'),
    (require_folder, file, 'Not a directory'),
    (require_folder, file / 'below' / 'it', 'Not a directory'),
    (require_folder, loop, 'Too many levels of symbolic links'),
    (require_folder, nowhere, 'No such file or directory'),
    (require_folder, tmp_path / long, 'File name too long'),
    (require_folder, tmp_path / ('n' * 300) / 'below', 'File name too long'),
  ]:
    assert refusal(require, path) == f'Cannot write {path}: {reason}.'


@pytest.mark.parametrize('name', ['gs://bucket/run', 's3://bucket', 'file:///there/run', 'hdfs:/a'])
def test_an_address_is_no_folder(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = pathlib.Path(name)
  assert refusal(require_folder, path).startswith(f'Cannot write {path}: it is an address; ')
  require_folder(pathlib.Path('./a:b/c'))
  require_folder(pathlib.Path('2026-01-01T10:00'))


def test_a_folder_without_a_name_can_be_written(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('.', '', '..', 'new', '/'):
    require_folder(pathlib.Path(name))
  assert not list(tmp_path.iterdir())


def test_a_file_system_that_takes_nothing_is_said():
  for require, path in ((require_file, '/proc/a.png'), (require_folder, '/proc/none/below')):
    assert refusal(require, pathlib.Path(path)).startswith(f'Cannot write {path}: ')


@contextlib.contextmanager
def anybody():
  """Runs the block without the rights of root, who may write everywhere."""
  user = os.geteuid()
  if user == 0:
    os.seteuid(NOBODY)
  try:
    yield
  finally:
    os.seteuid(user)


def test_a_folder_that_one_may_not_write_is_said(tmp_path):
  folder = tmp_path / 'folder'
  folder.mkdir()
  folder.chmod(0o555)
  with anybody():
    for require, path in (
      (require_file, folder / 'a.png'),
      (require_folder, folder),
      (require_folder, folder / 'below' / 'it'),
    ):
      assert refusal(require, path) == f'Cannot write {path}: Permission denied.'


def test_room_that_is_not_free_is_said(tmp_path):
  free = shutil.disk_usage(tmp_path).free
  require_room(tmp_path, free // 2)
  with pytest.raises(OSError, match=r'^The output takes 9,[0-9,.]+ MiB, but only '):
    require_room(tmp_path, 2**20 * 9 * 10**12)
