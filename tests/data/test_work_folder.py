"""Two builds of one dataset never work in the same folder, whenever they begin and end."""

import contextlib
import shutil

import pytest

from data import progress


def test_a_build_that_begins_while_another_ends_keeps_its_work(tmp_path, monkeypatch):
  out, remove = tmp_path / 'out', shutil.rmtree

  def second(path, **options):
    """Begins another build before files are removed."""
    monkeypatch.setattr(shutil, 'rmtree', remove)
    with (
      contextlib.suppress(InterruptedError),
      progress.continued(out, tmp_path, {'fps': 8.0}) as work,
    ):
      work.add('0.mkv', [], 'of the second')
      remove(path, **options)
      raise InterruptedError

  with progress.continued(out, tmp_path, {'fps': 16.0}):
    folder = progress.folder_for(out)
    (folder / 'beam').mkdir()
    patched = lambda path, **options: (remove if folder.exists() else second)(path, **options)
    monkeypatch.setattr(shutil, 'rmtree', patched)
  with progress.continued(out, tmp_path, {'fps': 8.0}) as work:
    assert work.done == {'0.mkv': 'of the second'}
  assert [*tmp_path.iterdir()] == []


def test_a_build_that_waited_for_the_files_of_one_that_ended_is_refused(tmp_path, monkeypatch):
  out, lock = tmp_path / 'out', progress.fcntl.flock

  def late(*arguments):
    progress.discard(out)  # by the other one, after this one has opened the files
    lock(*arguments)

  monkeypatch.setattr(progress.fcntl, 'flock', late)
  message = r'out\.parts is in use: another process is building'
  with pytest.raises(ValueError, match=message), progress.continued(out, tmp_path, {}):
    pass
