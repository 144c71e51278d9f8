"""A build that ends at any point is continued to the same dataset, and no work is done twice."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from core import command, video
from data import dataset, processes, progress, sources
from data.captions import Line
from tests.data.test_scenes import panning
from tests.data.videos import built, encoded

OPTIONS = dict(fps=10.0, seconds=1.0, min_frames=4, crf=30, validation=0.3)
FILES = 6


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  """Files of two scenes each, of which one cannot be decoded."""
  folder = tmp_path_factory.mktemp('videos')
  for i in range(FILES - 1):
    pictures = np.concatenate([panning(2 * i, 12 + i), panning(2 * i + 1, 8)])
    (folder / f'{i}.mkv').write_bytes(encoded(pictures, np.arange(len(pictures)) * 100))
  (folder / 'text.mkv').write_text('no video')
  return folder


class Interrupted(Exception):
  """Ends a build."""


LINES = {f'{i}.mkv': Line(f'film {i}', None) for i in range(FILES - 1)}
LINES['text.mkv'] = Line('none', None)


@pytest.fixture
def calls(monkeypatch):
  """The files that are decoded, here in this process, in order."""
  done = []

  def results(call, jobs, *_):
    for job in jobs:
      if isinstance(job, str):  # and is no thumbnail
        done.append(job)
      yield job, call(job)

  monkeypatch.setattr(processes, 'results', results)
  return done


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_work_that_is_cut_at_any_byte_is_continued_to_the_same_dataset(
  videos, tmp_path, calls, monkeypatch
):
  report = built(videos, LINES, tmp_path / 'whole', **OPTIONS)
  assert report['written'] == 13
  assert set(report['splits']) == {'train', 'validation'}
  opened = tfds.builder_from_directory(tmp_path / 'whole')
  train, held_out = (
    {record['file'] for record in opened.as_data_source(split=split)} for split in report['splits']
  )
  assert len(train) + len(held_out) == FILES - 1
  assert not train & held_out
  expected = contents(tmp_path / 'whole')

  def fail(*arguments):
    raise OSError('No space left on device')

  out = tmp_path / 'out'
  with monkeypatch.context() as patch:
    patch.setattr(dataset, 'write', fail)
    with pytest.raises(OSError, match='No space left'):
      built(videos, LINES, out, **OPTIONS)
  assert not out.exists()
  parts = progress.folder_for(out)
  complete = contents(parts)
  lines = complete['results.jsonl'].splitlines(keepends=True)
  assert len(lines) == FILES
  ends = np.cumsum([0, *map(len, lines)]).tolist()

  rng = np.random.default_rng(0)
  whole = len(complete['results.jsonl'])
  for cut in (0, ends[2], ends[3] - 1, whole, *rng.integers(0, whole, 3).tolist()):
    shutil.rmtree(out, ignore_errors=True)
    parts.mkdir(exist_ok=True)
    for name, data in complete.items():
      (parts / name).write_bytes(data[:cut] if name == 'results.jsonl' else data)
    calls.clear()
    assert built(videos, LINES, out, **OPTIONS) == report
    assert contents(out) == expected
    assert calls == sorted(LINES)[sum(end <= cut for end in ends[1:]) :]
    assert not parts.exists()


def test_clips_that_are_missing_are_made_again(videos, tmp_path, calls, monkeypatch):
  """As after a power failure, if the disk got the line and not the clips."""
  out, settings = tmp_path / 'out', {'a': 1}
  options = sources.Options(fps=10.0, seconds=1.0, min_frames=4)
  with contextlib.suppress(Interrupted), progress.continued(out, videos, settings) as work:
    for file in LINES:
      work.add(file, progress.version_of(videos / file), sources.process(videos / file, options))
    before = dict(work.done)
    raise Interrupted
  clips = progress.folder_for(out) / 'clips.bin'
  data = clips.read_bytes()
  with contextlib.suppress(Interrupted), progress.continued(out, videos, settings) as work:
    assert work.done == before
    part = work.done['1.mkv'].segments[0]
    assert part.encoded.read() == sources.process(videos / '1.mkv', options).segments[0].encoded
    raise Interrupted
  clips.write_bytes(data[: part.encoded.offset + 1])
  with progress.continued(out, videos, settings) as work:
    assert work.done == {'0.mkv': before['0.mkv']}
  assert not clips.parent.exists()


def test_what_is_added_within_a_second_is_written_together_and_at_the_end(
  videos, tmp_path, monkeypatch
):
  monkeypatch.setattr(progress, 'SYNC', 1e9)
  results = progress.folder_for(tmp_path / 'out') / 'results.jsonl'
  with contextlib.suppress(Interrupted), progress.continued(tmp_path / 'out', videos, {}) as work:
    for file in ('0.mkv', '1.mkv', '2.mkv'):
      work.add(file, progress.version_of(videos / file), 'cannot be opened')
      assert results.read_bytes().count(b'\n') == 1
    raise Interrupted
  with progress.continued(tmp_path / 'out', videos, {}) as work:
    assert work.done == dict.fromkeys(('0.mkv', '1.mkv', '2.mkv'), 'cannot be opened')


def test_the_files_of_a_process_that_is_killed_are_removed_with_the_work(
  videos, tmp_path, calls, monkeypatch
):
  paths, encode = [], video.encode_mp4

  def killed_once(path, *arguments, **options):
    paths.append(path)
    (path.parent / 'left').write_bytes(b'')
    if len(paths) == 1:  # as if the process had ended before it could remove its folder
      shutil.copytree(path.parent, path.parent.parent / 'of a killed process')
    encode(path, *arguments, **options)

  monkeypatch.setattr(video, 'encode_mp4', killed_once)
  built(videos, LINES, tmp_path / 'out', **OPTIONS)
  assert len(paths) > FILES
  assert {path.parents[2] for path in paths} == {progress.folder_for(tmp_path / 'out')}
  assert [*tmp_path.iterdir()] == [tmp_path / 'out']


def test_a_file_that_has_changed_is_decoded_again(videos, tmp_path, calls, monkeypatch):
  folder = tmp_path / 'videos'
  shutil.copytree(videos, folder)
  monkeypatch.setattr(dataset, 'write', lambda *arguments: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    built(folder, LINES, tmp_path / 'out', **OPTIONS)
  calls.clear()
  os.utime(folder / '3.mkv', (1, 1))
  with pytest.raises(ZeroDivisionError):
    built(folder, LINES, tmp_path / 'out', **OPTIONS)
  assert calls == ['3.mkv']


def test_a_file_that_changes_after_it_was_decoded_is_refused(videos, tmp_path, calls, monkeypatch):
  folder, write = tmp_path / 'videos', dataset.write
  shutil.copytree(videos, folder)

  def late(*arguments):
    shutil.copy(folder / '1.mkv', folder / '0.mkv')
    write(*arguments)

  monkeypatch.setattr(dataset, 'write', late)
  with pytest.raises(ValueError, match=r'0\.mkv has changed since it was decoded; build again'):
    built(folder, LINES, tmp_path / 'out', **OPTIONS | {'seconds': 0.0})


def test_work_of_other_settings_and_of_another_process_is_left_alone(videos, tmp_path):
  out = tmp_path / 'out'
  with contextlib.suppress(Interrupted), progress.continued(out, videos, {'fps': 8.0}):
    message = r'out\.parts is in use: another process is building'
    with pytest.raises(ValueError, match=message), progress.continued(out, videos, {'fps': 8.0}):
      pass
    raise Interrupted
  message = r'has the work of a build with fps=8\.0, and this one has fps=16\.0: continue with'
  with pytest.raises(ValueError, match=message), progress.continued(out, videos, {'fps': 16.0}):
    pass
  assert (progress.folder_for(out) / 'settings.json').exists()


def test_a_build_that_is_killed_leaves_no_process_and_is_continued_by_others(videos, tmp_path):
  """Killed with two workers once a file is done; continued with one, and compared with four."""
  expected = built(videos, LINES, tmp_path / 'four', workers=4, **OPTIONS)
  script = tmp_path / 'build.py'
  script.write_text(
    'import pathlib, sys, time\n'
    f'sys.path.insert(0, {str(command.ROOT)!r})\n'
    'from data import progress\n'
    'from data.builder import *\n'
    'from data.captions import Line\n'
    'if __name__ == "__main__":\n'
    '  add = progress.Progress.add\n'
    '  progress.Progress.add = lambda *a: (add(*a), print(*a[1:2], flush=True), time.sleep(0.2))\n'
    f'  videos, out = pathlib.Path({str(videos)!r}), pathlib.Path({str(tmp_path / "out")!r})\n'
    f'  lines = {{f: Line("film " + f[:-4], None) for f in {sorted(LINES)[:-1]!r}}}\n'
    '  lines["text.mkv"] = Line("none", None)\n'
    '  options = Options(fps=10.0, seconds=1.0, min_frames=4, crf=30)\n'
    '  build(videos, manifest.Manifest(lines), out, options, validation=0.3, workers=2)\n'
  )
  process = subprocess.Popen(
    [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
  )
  process.stdout.readline()
  children = pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
  process.kill()
  process.communicate()
  assert children
  deadline = time.monotonic() + 20
  while any(pathlib.Path('/proc', child, 'cwd').exists() for child in children):
    assert time.monotonic() < deadline, 'its workers are still there'
    time.sleep(0.1)
  assert not (tmp_path / 'out').exists()
  assert (tmp_path / 'out.parts' / 'results.jsonl').stat().st_size > 0
  assert built(videos, LINES, tmp_path / 'out', **OPTIONS) == expected
  assert contents(tmp_path / 'out') == contents(tmp_path / 'four')


def test_a_file_that_was_lost_is_tried_again(videos, tmp_path, monkeypatch):
  """As one whose process was killed for its memory, so that the result is that of the file."""
  expected = built(videos, LINES, tmp_path / 'at once', **OPTIONS)

  def calls(call, jobs, *_):
    yield next(iter(jobs)), processes.Lost('crashes the process')
    raise Interrupted

  with monkeypatch.context() as patch:
    patch.setattr(processes, 'results', calls)
    with pytest.raises(Interrupted):
      built(videos, LINES, tmp_path / 'out', **OPTIONS)
  assert built(videos, LINES, tmp_path / 'out', **OPTIONS) == expected
  assert contents(tmp_path / 'out') == contents(tmp_path / 'at once')


BEAM = {'beam_runner': 'DirectRunner', 'beam_options': '--direct_num_workers=1'}


def test_beam_gives_the_same_bits_and_decodes_no_finished_file_again(videos, tmp_path, monkeypatch):
  pytest.importorskip('apache_beam')
  expected = built(videos, LINES, tmp_path / 'processes', **OPTIONS)
  files, out = [], tmp_path / 'out [1]*'  # characters of patterns

  def calls(call, jobs, *_):
    """The results of two files, here in this process, and then the end of the pipeline."""
    for job in jobs:
      files.append(job)
      if len(files) == 3:
        raise Interrupted
      yield job, call(job)

  with monkeypatch.context() as patch:
    patch.setattr(processes, 'results', calls)
    with pytest.raises(Exception, match='Interrupted'):
      built(videos, LINES, out, **OPTIONS, **BEAM)
  assert len([*(progress.folder_for(out) / 'beam').glob('??/*')]) == 2
  assert len(files) == 3

  def counted(call, jobs, *options):
    files.extend(job for job in jobs if isinstance(job, str))  # others are thumbnails
    return original(call, jobs, *options)

  original = processes.results
  monkeypatch.setattr(processes, 'results', counted)
  assert built(videos, LINES, out, **OPTIONS, **BEAM) == expected
  assert sorted([*files[:2], *files[3:]]) == sorted(LINES)
  assert contents(out) == contents(tmp_path / 'processes')
