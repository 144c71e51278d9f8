"""The page about a dataset has every reason and number, and needs nothing else."""

import io
import re

import numpy as np
from PIL import Image

from data import filters, processes, report_page, thumbnails
from data.captions import Line
from tests.data.test_scenes import panning
from tests.data.videos import built, encoded


def test_the_bars_of_a_histogram_have_the_numbers_of_values():
  kept, dropped = np.array([0.0, 0.1, 0.1, np.nan, 1.0]), np.array([0.1, 0.5])
  chart = report_page.histogram('a < b', kept, dropped)
  assert 'a &lt; b (highest bar: 3)' in chart
  numbers = re.findall(r'(\d+) kept, (\d+) left out', chart)
  below, above = np.array(numbers, int).T
  np.testing.assert_array_equal(below, np.histogram(kept[[0, 1, 2, 4]], 20, (0, 1))[0])
  np.testing.assert_array_equal(above, np.histogram(dropped, 20, (0, 1))[0])
  heights = [float(h) for h in re.findall(r'class="kept"[^>]*height="([\d.]+)"', chart)]
  np.testing.assert_allclose(heights, below * 80 / 3, atol=0.06)
  report_page.histogram('empty', np.zeros(0), np.zeros(0))


def test_a_thumbnail_is_decoded_in_a_process_with_a_limit_of_time(tmp_path, monkeypatch):
  for name, frames in {'a.mkv': panning(0, 9), 'slow.mkv': panning(1, 9)}.items():
    (tmp_path / name).write_bytes(encoded(frames, np.arange(9) * 100))
  (tmp_path / 'text.mkv').write_text('no video')
  places = [('a.mkv', 0.4), ('slow.mkv', 0.4), ('text.mkv', 0.0)]

  def results(call, jobs, workers, seconds):
    assert (workers, seconds) == (3, 7.0)
    for job in jobs:
      slow = processes.Lost(f'takes more than {seconds:g} s')
      yield job, slow if job[0] == 'slow.mkv' else call(job)

  monkeypatch.setattr(processes, 'results', results)
  shown = thumbnails.jpegs(tmp_path, places, 3, 7.0)
  assert [*shown] == places[:1]
  with Image.open(io.BytesIO(shown[places[0]])) as image:
    assert min(image.size) == thumbnails.SIDE


def test_the_page_has_pictures_reasons_and_captions_and_no_link(tmp_path):
  folder = tmp_path / 'videos'
  folder.mkdir()
  pictures = {
    'a<b>.mkv': np.concatenate([panning(0, 12), panning(1, 20)]),
    'still.mkv': panning(2, 20, step=0),
    'copy.mkv': np.concatenate([panning(0, 12), panning(3, 20)]),
  }
  for name, frames in pictures.items():
    (folder / name).write_bytes(encoded(frames, np.arange(len(frames)) * 100))
  lines = {name: Line(f'caption of {name}', None) for name in pictures}
  limits = filters.Limits(max_frozen=0.5, max_distance=10)
  report = built(
    folder, lines, tmp_path / 'out', fps=10.0, seconds=2.0, min_frames=12, limits=limits
  )
  assert report['reasons'] == {'duplicate': 1, 'frozen': 1}
  assert report['skipped']['copy.mkv at 0.000 s'] == 'it looks like a<b>.mkv at 0.000 s'
  page = (tmp_path / 'out' / 'report.html').read_text('utf-8')
  assert page.count('<img ') == 5
  assert page.count('src="data:image/jpeg;base64,') == 5
  assert 'caption of a&lt;b&gt;.mkv' in page
  assert 'it looks like a&lt;b&gt;.mkv at 0.000 s' in page
  assert not re.search(r'<script|https?:|<link', page)
  assert [text for text in re.findall('<h2>(.*?)</h2>', page) if ':' in text] == [
    'Left out: duplicate',
    'Left out: frozen',
  ]
