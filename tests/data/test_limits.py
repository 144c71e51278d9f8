import numpy as np
import pytest

from data import captions, decode, filters, processes, sources
from tests.data.videos import built, encoded, numbered


def test_a_video_of_more_than_a_day_ends_before():
  file = encoded(numbered(3), [0, 10_000_000, 90_000_000])
  facts = decode.probe(file)
  assert facts.frames == 2
  assert facts.fault == 'lasts 90000 s or more; at most 86400 s are allowed'
  assert decode.decode(file, fps=0.0001)[:, 0, 0, 0].tolist() == [0, 1]


def test_frames_of_too_many_bytes_are_refused(monkeypatch, tmp_path):
  (tmp_path / 'a.mkv').write_bytes(encoded(numbered(9), np.arange(9) * 100))
  monkeypatch.setattr(decode, 'MAX_BYTES', 4 * 16 * 16 * 3)
  assert len(decode.decode(tmp_path / 'a.mkv', fps=10.0, count=4)) == 4
  with pytest.raises(ValueError, match=r'a\.mkv: more than 4 frames of 16 x 16 pixels; at most'):
    decode.decode(tmp_path / 'a.mkv', fps=10.0)


def test_a_file_that_takes_too_long_is_reported(monkeypatch, tmp_path):
  (folder := tmp_path / 'videos').mkdir()
  for name in ('good', 'slow'):
    (folder / name).write_bytes(encoded(numbered(9), np.arange(9) * 100))

  def results(call, jobs, workers, seconds):
    for job in jobs:
      slow = processes.Lost(f'takes more than {seconds:g} s')
      yield job, slow if job == 'slow' else call(job)

  monkeypatch.setattr(processes, 'results', results)
  lines = {name: captions.Line(name, 'train') for name in ('good', 'slow')}
  options = {'min_frames': 4, 'file_seconds': 7.0, 'limits': filters.Limits(max_black=1.0)}
  report = built(folder, lines, tmp_path / 'out', **options)
  assert report['written'] == 1
  assert report['skipped'] == {'slow': 'decoding it takes more than 7 s'}
  with pytest.raises(ValueError, match='Got --file_seconds=0; more than 0 is allowed'):
    sources.Options(file_seconds=0.0)


def test_a_file_that_takes_too_much_memory_has_a_reason(monkeypatch, tmp_path):
  def follow(*_):
    raise MemoryError

  monkeypatch.setattr(sources.trace, 'follow', follow)
  reason = sources.process(tmp_path / 'a.mkv', sources.Options())
  assert reason == 'decoding it takes more than 4 GiB of memory'
