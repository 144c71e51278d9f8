import errno
import os
import pathlib
import re
import subprocess
import sys
from unittest import mock

import pytest

from core import folder
from core.folder import new_file, new_folder, sweep


def test_a_file_takes_the_place_of_another_when_all_went_well(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('old')
  with new_file(path) as file:
    file.write_text('new')
    assert path.read_text() == 'old'
  assert path.read_text() == 'new'
  assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_failed_leaves_nothing(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('old')

  def fails():
    with new_file(path) as file:
      file.write_text('half')
      raise KeyError('lost')

  with pytest.raises(KeyError):
    fails()
  assert path.read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_says_where(tmp_path):
  path = tmp_path / 'none' / 'a.txt'
  message = f'^Cannot write {re.escape(str(path))}: No such file or directory.$'
  with pytest.raises(OSError, match=message), new_file(path) as file:
    file.write_text('new')


def test_errors_of_other_files_and_our_own_are_not_said_to_be_of_this_one(tmp_path):
  for error in (OSError('Nobody is there.'), FileNotFoundError(2, 'No such file', '/nowhere/x')):
    for new in (new_file, new_folder):
      with pytest.raises(OSError, match=re.escape(str(error))) as result, new(tmp_path / 'a'):
        raise error
      assert result.value is error
  assert list(tmp_path.iterdir()) == []


def full(*args):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('new', [new_file, new_folder])
@pytest.mark.parametrize('what', ['fsync', 'within'])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch, new, what):
  out = tmp_path / 'some/folders/out'
  if new is new_file:
    out = tmp_path / 'out'

  def write():
    with new(out) as incomplete:
      (incomplete if new is new_file else incomplete / 'file').write_text('half')
      if what == 'within':
        full()
      monkeypatch.setattr(folder.os, 'fsync', full)

  with pytest.raises(OSError, match=f'^Cannot write {out}: No space left on device.$'):
    write()
  assert list(tmp_path.iterdir()) == []


def test_what_is_named_is_on_the_disk_before(tmp_path, monkeypatch):
  """Without a flush to disk, a power failure after a rename can leave an empty file."""
  order, sync, replace = [], os.fsync, os.replace
  monkeypatch.setattr(folder.os, 'fsync', lambda file: order.append('sync') or sync(file))
  monkeypatch.setattr(folder.os, 'replace', lambda *a: order.append('rename') or replace(*a))
  with new_file(tmp_path / 'a') as file:
    file.write_text('new')
  assert order == ['sync', 'rename', 'sync']
  del order[:]
  with new_file(tmp_path / 'a', sync=False) as file:
    file.write_text('new')
  assert order == ['rename']


@pytest.fixture
def old(tmp_path):
  """A folder to be replaced."""
  out = tmp_path / 'out'
  out.mkdir()
  (out / 'old').touch()
  return out


def test_a_folder_takes_the_place_of_another_when_all_went_well(tmp_path, old):
  with pytest.raises(ValueError, match=r'exists already; --out is a new folder\.'), new_folder(old):
    pass
  with new_folder(old, replace=True) as incomplete:
    (incomplete / 'new').touch()
    assert (old / 'old').exists()
  assert [p.name for p in old.iterdir()] == ['new']
  assert list(tmp_path.iterdir()) == [old]


def test_the_folder_that_one_is_in_is_replaced(tmp_path, old, monkeypatch):
  monkeypatch.chdir(old)
  with new_folder(pathlib.Path('.'), replace=True) as incomplete:
    (incomplete / 'new').touch()
  assert [p.name for p in old.iterdir()] == ['new']
  assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize('kind', [ValueError, RuntimeError, KeyError])
def test_a_library_that_says_the_disk_is_full_in_its_own_way_is_understood(tmp_path, kind):
  out, text = tmp_path / 'out', 'RESOURCE_EXHAUSTED: write() failed: No space left on device; at 9'
  for new in (new_folder, new_file):
    with pytest.raises(OSError, match=r'^Cannot write .*out: No space left on device\.$'), new(out):
      raise kind(text)
    with pytest.raises(kind, match='no such words'), new(out):
      raise kind('no such words')
    assert not list(tmp_path.iterdir())


def test_a_folder_that_failed_leaves_the_one_it_was_to_replace(tmp_path, old, monkeypatch):
  with pytest.raises(KeyboardInterrupt), new_folder(old, replace=True):
    raise KeyboardInterrupt
  assert [p.name for p in old.iterdir()] == ['old']
  rename, fails = folder.pathlib.Path.rename, mock.Mock(side_effect=full)

  def second(path, to):
    return (fails if path.suffix == '.incomplete' else rename)(path, to)

  monkeypatch.setattr(folder.pathlib.Path, 'rename', second)
  with pytest.raises(OSError, match='No space left'), new_folder(old, replace=True):
    pass
  assert fails.called
  assert [p.name for p in old.iterdir()] == ['old']
  assert list(tmp_path.iterdir()) == [old]


def test_a_kill_between_two_renames_is_mended(tmp_path, old):
  old.rename(tmp_path / 'out.replaced')
  (tmp_path / 'out.incomplete').mkdir()
  with new_folder(old, replace=True) as incomplete:
    assert (old / 'old').exists()
    (incomplete / 'new').touch()
  assert [p.name for p in old.iterdir()] == ['new']
  assert list(tmp_path.iterdir()) == [old]


def test_what_a_kill_left_is_swept_and_nothing_else(tmp_path):
  for name in ('.a.json.0123abcd.part', 'a.part', 'a.json'):
    (tmp_path / name).touch()
  sweep(tmp_path)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.json', 'a.part']


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'caf\\xe9" has \\xe9, .*; allowed is a name in UTF-8\.$'):
    with new_folder(tmp_path / 'caf\udce9'):
      raise AssertionError('it was made')
  assert not list(tmp_path.iterdir())


def test_what_a_killed_process_of_this_host_had_begun_is_removed_by_the_next(tmp_path, monkeypatch):
  path = tmp_path / 'a.txt'
  mine, other = (folder.incomplete_name(tmp_path / name) for name in ('a.txt', 'b.txt'))
  gone = subprocess.Popen([sys.executable, '-c', ''])
  gone.wait()
  killed = mine.with_name(mine.name.replace(f'.{os.getpid()}.', f'.{gone.pid}.'))
  elsewhere = killed.with_name('.a.txt.00000000' + killed.name.removeprefix('.a.txt')[9:])
  for file in (mine, other, killed, elsewhere):
    file.touch()
  with new_file(path) as file:
    file.touch()
  assert set(tmp_path.iterdir()) == {path, mine, other, elsewhere}
  killed.touch()
  with new_file(path, sync=False) as file:
    file.touch()
  assert killed.exists()  # looking for abandoned files would be slow where many files are written
