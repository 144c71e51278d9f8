import re

import pytest

from core.folder import new_file, new_folder


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


def test_a_folder_whose_name_is_not_utf_8_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'caf\\xe9" has \\xe9, .*; allowed is a name in UTF-8\.$'):
    with new_folder(tmp_path / 'caf\udce9'):
      raise AssertionError('it was made')
  assert not list(tmp_path.iterdir())
