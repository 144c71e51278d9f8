"""A table and rows on disk are a dictionary and a list, and their memory is bounded."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from core.command import ROOT
from core.errors import UserError, UserFileError
from data.on_disk import Rows, Table


def test_a_table_is_a_dictionary_in_the_order_of_its_keys():
  names = ['b', 'a\udce9', '\U0001f600', '\uffff', 'a', '', '\xe9', 'e\u0301']
  expected = {name: (name, len(name)) for name in names}
  table = Table(expected)
  assert table == expected
  assert list(table) == sorted(names)
  table['a'] = 'another'
  assert (table['a'], len(table), 'a' in table, 'c' in table) == ('another', 8, True, False)
  assert table.pop('a') == 'another'
  for missing in (lambda: table['a'], lambda: table.__delitem__('a')):
    with pytest.raises(KeyError):
      missing()
  assert table == {name: value for name, value in expected.items() if name != 'a'}
  numbers = Table((n, n * n) for n in (300, 2, 10))
  assert list(numbers.items()) == [(2, 4), (10, 100), (300, 90000)]


def test_rows_are_a_list():
  rows = Rows('abc')
  rows.append('d')
  assert rows == ['a', 'b', 'c', 'd']
  assert (rows[1], len(rows), list(rows)) == ('b', 4, ['a', 'b', 'c', 'd'])
  assert rows != ['a', 'b', 'c']
  assert rows != ['a', 'b', 'c', 'x']
  with pytest.raises(IndexError):
    rows[4]


def test_a_full_disk_is_one_line_that_names_the_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('SQLITE_TMPDIR', str(tmp_path))
  table = Table()
  table._database.execute('PRAGMA max_page_count = 20')  # the same error of SQLite
  with pytest.raises(UserFileError) as caught:
    table.update((number, bytes(10000)) for number in range(20))
  assert str(caught.value) == (
    f'Cannot write temporary files to {tmp_path}: database or disk is full.  Free space there, or '
    'name another folder by the environment variable SQLITE_TMPDIR.'
  )


def test_the_folder_is_that_in_which_sqlite_has_files(tmp_path):
  """Both of the names that it reads, when a process begins."""
  script = (
    'import os; from data import on_disk; table = on_disk.Rows(bytes(100000) for _ in range(50)); '
    'links = (os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")); '
    'assert any(os.path.dirname(link) == on_disk._folder() for link in links)'
  )
  for name in ('SQLITE_TMPDIR', 'TMPDIR'):
    environment = {**os.environ, 'TMPDIR': '/nowhere', name: str(tmp_path)}
    subprocess.run([sys.executable, '-c', script], env=environment, cwd=ROOT, check=True)


def test_a_folder_that_sqlite_would_ignore_is_refused(tmp_path, monkeypatch):
  for wrong in (tmp_path / 'none', tmp_path / 'file'):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('SQLITE_TMPDIR', str(wrong))
    with pytest.raises(UserError, match=rf'^Got SQLITE_TMPDIR={wrong} in the environment; allowed'):
      Rows()


def test_what_is_on_disk_is_not_in_memory():
  def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

  values = [np.random.default_rng(seed).bytes(1 << 20) for seed in range(8)]
  before = peak()
  rows = Rows(values[i % 8] for i in range(64))
  assert all(row == values[i % 8] for i, row in enumerate(rows))
  assert peak() - before < 24e6
