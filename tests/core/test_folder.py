import re

import pytest

from core.folder import new_file


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
