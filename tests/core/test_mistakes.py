"""Errors that the operating system raises, on paths that the user named and on others."""

import errno
import os
import pathlib

import av
import numpy as np
import pytest
from PIL import Image

from core import mistakes
from core.errors import UserError, UserFileError


def message(act, *named):
  """What is said of the error that this raises."""
  with pytest.raises(Exception, match=r'(?s).*') as error:
    act()
  return mistakes.message(error.value, [pathlib.Path(name) for name in named])


def elsewhere(statement, **names):
  """A function whose error comes from code outside this project."""
  code = compile(statement, '/usr/lib/library.py', 'exec')
  return lambda: exec(code, names)


def refused(number, path=None):
  """A function that fails like a system call."""
  given = (number, os.strerror(number), *([str(path)] if path else []))
  return elsewhere('raise OSError(*given)', given=given)


@pytest.fixture
def file(tmp_path):
  (tmp_path / 'a.txt').write_text('text')
  return tmp_path / 'a.txt'


def test_whoever_calls_it_a_path_that_was_named_is_the_users(tmp_path, file):
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  long, folder, none = tmp_path / ('n' * 300), tmp_path / 'folder', tmp_path / 'none'
  folder.mkdir()
  for path, act, text in [
    (none, lambda: none.read_text(), 'No such file or directory'),
    (file, lambda: (file / 'below' / 'it').mkdir(parents=True), 'Not a directory'),
    (file, lambda: file.mkdir(), 'File exists'),
    (folder, lambda: folder.read_bytes(), 'Is a directory'),
    (tmp_path / 'loop', lambda: (tmp_path / 'loop').read_text(), 'Too many levels of symbolic'),
    (long, lambda: long.touch(), 'File name too long'),
    (none, lambda: Image.open(none), 'No such file or directory'),
    (none, lambda: np.load(none), 'No such file or directory'),
    (none, lambda: av.open(str(none)), 'No such file or directory'),
    (file, lambda: Image.new('RGB', (1, 1)).save(file / 'a.png'), 'Not a directory'),
  ]:
    assert text in message(act, 'another', path), path
    assert message(act, 'another', path).startswith(f'{path}')
    assert message(act, 'another', tmp_path / 'other') == '', path
    assert message(act) == '', path


@pytest.mark.parametrize('number', [errno.EACCES, errno.EPERM, errno.EBUSY, errno.EEXIST])
def test_what_lies_in_it_leads_to_it_or_takes_its_place_is_the_users_too(number):
  act = lambda path: refused(number, path)
  text = os.strerror(number)
  for path in ('/a/run', '/a/run/checkpoints/3', '/a', '/a/.run.1f.part', '/a/run.incomplete'):
    assert message(act(path), '/a/run') == f'{path}: {text}.'
  for path in ('/a/other', '/a/running', '/b', '/a/my.run', None):
    assert message(act(path), '/a/run') == ''


def test_relative_names_are_those_of_the_working_folder(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  act = refused(errno.EACCES, tmp_path / 'runs' / 'a')
  assert message(act, 'runs') == f'{tmp_path / "runs" / "a"}: Permission denied.'
  assert message(act, 'a blue square') == ''


@pytest.mark.parametrize(
  'number', [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO, errno.EFBIG]
)
def test_a_machine_that_fails_is_no_defect_wherever_it_does(number):
  assert message(refused(number)) == f'{os.strerror(number)}.'
  assert message(refused(number, '/var/x'), '/a') == f'/var/x: {os.strerror(number)}.'


def test_a_full_disk_is_said():
  def write():
    with open('/dev/full', 'wb', buffering=0) as full:
      full.write(b'text')

  assert message(write) == 'No space left on device.'


def test_an_error_that_was_raised_from_another_is_as_that_one():
  given = {'act': refused(errno.EACCES, '/a/run'), 'full': refused(errno.ENOSPC)}
  wrapped = 'try: {}()\nexcept OSError as error: raise {}("broken") from error'
  for kind in ('RuntimeError', 'ValueError', 'KeyError'):
    assert message(elsewhere(wrapped.format('act', kind), **given), '/a/run') == (
      '/a/run: Permission denied.'
    )
    assert message(elsewhere(wrapped.format('full', kind), **given)) == 'No space left on device.'
    assert message(elsewhere(wrapped.format('act', kind), **given), '/b') == ''


def test_a_defect_in_what_handles_an_error_stays_one():
  handling = 'try: act()\nexcept OSError: {}["key"]'
  act = elsewhere(handling, act=refused(errno.EACCES, '/a/run'))
  assert message(act, '/a/run') == ''


def test_what_this_project_says_is_the_users():
  def refuse(kind):
    raise kind('Got 3; allowed are 1 and 2.')

  for kind in (UserError, UserFileError):
    assert message(lambda kind=kind: refuse(kind)) == 'Got 3; allowed are 1 and 2.'
  defects = [lambda: refuse(ValueError), lambda: refuse(OSError)]
  defects += [lambda: int('x'), lambda: {}['key'], lambda: np.zeros(2).reshape(3)]
  for defect in defects:
    assert message(defect, '/') == ''


def test_an_error_without_a_number_of_the_system_is_a_defect_of_what_raised_it():
  assert message(elsewhere('raise OSError("broken data stream")'), '/') == ''
