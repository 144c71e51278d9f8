import os
import pathlib

import pytest

from core import files


@pytest.fixture
def folder(tmp_path):
  """A folder with files `a`, `in/b`, a link to `c`, and circular and broken links."""
  root = tmp_path / 'root'
  (root / 'in').mkdir(parents=True)
  (tmp_path / 'out').mkdir()
  for path in (root / 'a', root / 'in' / 'b', tmp_path / 'out' / 'c'):
    path.write_text('x')
  return root


def test_files_below_are_found_at_any_depth(folder):
  (folder / 'linked').symlink_to('a')
  assert sorted(files.below(folder)) == ['a', 'in/b', 'linked']


@pytest.mark.parametrize(
  ('link', 'target'),
  [
    ('in/round', '..'),
    ('round', '.'),
    ('up', '..'),
    ('in/root', '/'),
    ('nowhere', 'none'),
    ('itself', 'itself'),
  ],
)
def test_a_link_that_leads_round_or_nowhere_has_no_files(folder, link, target):
  (folder / link).symlink_to(target)
  assert sorted(files.below(folder)) == ['a', 'in/b']


def test_a_folder_that_many_links_lead_to_is_found_once(folder):
  (folder / 'in' / 'z').symlink_to('../../out')
  for name in ('x', 'y'):
    (folder / name).symlink_to('../out')
  (folder / 'A').symlink_to('in')  # the real path takes precedence
  result = sorted(files.below(folder))
  assert result[:2] == ['a', 'in/b']
  assert [os.path.basename(file) for file in result[2:]] == ['c']


def test_links_between_folders_outside_end(folder):
  other = folder.parent / 'out'
  (other / 'back').symlink_to('../root/in')
  (other / 'self').symlink_to('.')
  (folder / 'in' / 'there').symlink_to('../../out')
  assert sorted(files.below(folder)) == ['a', 'in/b', 'in/there/c']


def test_a_folder_may_be_a_link_itself(folder):
  link = folder.parent / 'link'
  link.symlink_to('root')
  assert sorted(files.below(link)) == ['a', 'in/b']


def test_a_folder_that_cannot_be_read_is_reported(folder, monkeypatch):
  scan = os.scandir

  def scandir(path):
    if pathlib.Path(path).name == 'in':
      raise PermissionError(13, 'Permission denied')
    return scan(path)

  monkeypatch.setattr(os, 'scandir', scandir)
  with pytest.raises(OSError, match=r'^Cannot read the folder .*root/in: Permission denied\.$'):
    list(files.below(folder))
  unreadable = []
  assert list(files.below(folder, lambda path, error: unreadable.append(path))) == ['a']
  assert unreadable == [folder / 'in']


# A letter in two Unicode forms, in three scripts; other letters that look alike do not match.
@pytest.mark.parametrize(
  ('one', 'other'), [('\xe9', 'e\u0301'), ('\uac00', '\u1100\u1161'), ('\u212b', '\xc5')]
)
def test_a_name_means_the_one_of_another_form(one, other):
  assert files.match_names([f'{one}/a'], [f'{other}/a', 'b']) == {f'{one}/a': f'{other}/a'}
  assert files.match_names([f'{one}/a'], [f'{other}/a', f'{one}/a']) == {f'{one}/a': f'{one}/a'}
  both = [one, other]
  assert files.match_names(both, both) == {one: one, other: other}
  assert files.match_names(both, [one]) == {one: one}


def test_a_name_that_may_mean_two_means_none():
  both = ['\xe9\xe9', 'e\u0301\xe9']
  assert files.match_names(['e\u0301e\u0301'], both) == {}
  assert files.match_names(both, ['e\u0301e\u0301']) == {}
  assert files.match_names(['e'], ['\xe9']) == {}
  assert files.match_names(['fi'], ['\ufb01']) == {}  # a ligature is a different character
