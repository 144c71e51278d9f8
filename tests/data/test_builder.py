import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from core import video
from data import dataset, manifest, processing
from data.captions import Line
from tests.data.test_scenes import panning
from tests.data.videos import built, encoded, numbered

FOLDER = pathlib.Path(os.environ.get('LUMIERE_DATA', 'none'), 'videos')
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason='LUMIERE_DATA is not set')


@pytest.fixture
def videos(tmp_path):
  """Videos of 3 and 1 seconds, and a truncated one."""
  folder = tmp_path / 'videos'
  folder.mkdir()
  noise = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
  (folder / 'cut.mkv').write_bytes(encoded(noise, np.arange(40) * 100)[: 30 * 16 * 16 * 3])
  (folder / 'long.mkv').write_bytes(encoded(numbered(30), np.arange(30) * 100))
  (folder / 'short.mkv').write_bytes(encoded(numbered(10), np.arange(10) * 100))
  (folder / 'text.mp4').write_text('this is no video')
  (folder / 'silent.mkv').write_bytes(b'')
  (folder / 'unknown.mkv').write_bytes(b'')
  return folder


LINES = {
  **{f: Line(f'film {f}', 'train') for f in ('cut.mkv', 'long.mkv', 'short.mkv', 'text.mp4')},
  'none.mkv': Line('nothing', 'train'),
  'silent.mkv': Line(None, 'train'),
}


def test_what_can_be_used_is_written_and_the_rest_reported(videos, tmp_path):
  (out := tmp_path / 'out').mkdir()  # an empty folder
  report = built(videos, LINES, out, fps=8.0, min_frames=16, workers=1)
  assert json.loads((out / 'report.json').read_text()) == report
  assert report['written'] == 2
  assert report['skipped'] == {
    'none.mkv': 'no such file',
    'short.mkv': '8 frames at 8 a second; at least 16 are needed',
    'silent.mkv': 'neither caption nor label',
    'text.mp4': 'cannot be opened: Invalid data found when processing input',
    'unknown.mkv': 'no line in the captions',
  }
  source = dataset.Videos(str(out), size=8, frames=16, fps=8.0)
  assert [source[i]['caption'] for i in range(2)] == ['film cut.mkv', 'film long.mkv']
  assert not (tmp_path / 'out.incomplete').exists()

  with pytest.raises(ValueError, match='out exists already; --overwrite replaces'):
    built(videos, LINES, out)
  again = built(videos, LINES, out, min_frames=32, workers=1, overwrite=True)
  assert again['written'] == len(dataset.Videos(str(out), size=8, frames=16, fps=8.0))


def test_small_clips_are_left_out_and_source_videos_held_out(tmp_path):
  """Two clips of one source video, a copy of a third, and one that is too small on one side."""
  videos = tmp_path / 'videos'
  videos.mkdir()
  for i, file in enumerate(('a1.mkv', 'a2.mkv', 'b.mkv', 'c.mkv', 'd.mkv')):
    (videos / file).write_bytes(encoded(numbered(11 + i, 24), np.arange(11 + i) * 100))
  shutil.copy(videos / 'b.mkv', videos / 'copy of b.mkv')
  tall = numbered(10).swapaxes(1, 2)[:, :, :12]
  (videos / 'tall.mkv').write_bytes(encoded(tall, np.arange(10) * 100))
  lines = {path.name: Line('a film', None) for path in videos.iterdir()}
  lines |= {file: Line('a film', None, 'a film') for file in ('a1.mkv', 'a2.mkv')}
  lines['d.mkv'] = Line('a film', 'test')
  options = dict(fps=10.0, min_frames=8, workers=1)
  report = built(videos, lines, tmp_path / 'all', **options)
  assert report['splits'] == {'test': 1, 'train': 6}
  assert (report['least_height'], report['least_width'], report['shortest']) == (16, 12, 1.0)

  options |= dict(min_side=13, validation=0.4)
  report = built(videos, lines, tmp_path / 'out', **options)
  assert report['skipped'] == {'tall.mkv': '12 x 16 pixels; at least 13 are needed on each side'}
  assert (report['least_height'], report['least_width']) == (16, 24)
  opened = tfds.builder_from_directory(tmp_path / 'out')
  files = {
    split: {record['file'].decode() for record in opened.as_data_source(split=split)}
    for split in report['splits']
  }
  assert files['test'] == {'d.mkv'}
  assert files['train'] | files['validation'] == {
    'a1.mkv', 'a2.mkv', 'b.mkv', 'c.mkv', 'copy of b.mkv'
  }  # fmt: skip
  for pair in ({'a1.mkv', 'a2.mkv'}, {'b.mkv', 'copy of b.mkv'}):
    assert pair <= files['train'] or pair <= files['validation']
  assert report['in_several_splits'] == []

  lines['a1.mkv'] = Line('a film', 'test', 'a film')
  lines['a2.mkv'] = Line('a film', 'train', 'a film')
  report = built(videos, lines, tmp_path / 'third', **options)
  assert report['in_several_splits'] == ['a1.mkv', 'a2.mkv']


@pytest.fixture
def clip():
  return encoded(numbered(20), np.arange(20) * 100)


def small(folder, lines, out):
  """The report of a build, and the files and captions that it wrote."""
  lines = {file: Line(f'film {file}', 'train') for file in lines}
  report = built(folder, lines, out, fps=8.0, min_frames=4, workers=1)
  assert json.loads((out / 'report.json').read_text('utf-8')) == report
  records = dataset.Videos(str(out), size=8, frames=4, fps=8.0)._records
  return report, {r['file'].decode(): r['caption'].decode() for r in records}


def test_names_that_are_not_utf_8_are_escaped(clip, tmp_path):
  folder = tmp_path / 'videos'
  folder.mkdir()
  (folder / 'a\udce9.mkv').write_bytes(clip)
  noise = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
  video.write(tmp_path / 'whole.gif', noise)
  cut = (tmp_path / 'whole.gif').read_bytes()[:-2000]
  (folder / 'b\udcff.gif').write_bytes(cut)
  (folder / 'note\udce9.txt').write_text('x')
  lines = {f: Line('a film', 'train') for f in ('a\udce9.mkv', 'b\udcff.gif', 'none\ud83d.mkv')}
  report = built(folder, lines, tmp_path / 'out', fps=8.0, min_frames=1, workers=1)
  assert list(report['damaged']) == [r'b\xff.gif']
  assert report['skipped'] == {
    r'none\ud83d.mkv': 'no such file',
    r'note\xe9.txt': 'no line in the captions',
  }
  assert json.loads((tmp_path / 'out' / 'report.json').read_text('utf-8')) == report
  records = dataset.Videos(str(tmp_path / 'out'), size=8, frames=1, fps=8.0)._records
  assert [record['file'].decode() for record in records] == [r'a\xe9.mkv', r'b\xff.gif']


def test_folders_behind_links_are_read_and_loops_are_not(clip, tmp_path):
  folder, elsewhere = tmp_path / 'videos', tmp_path / 'elsewhere'
  (elsewhere / 'deep').mkdir(parents=True)
  folder.mkdir()
  for file in (elsewhere / 'a.mkv', elsewhere / 'deep' / 'b.mkv', elsewhere / 'unsaid.mkv'):
    file.write_bytes(clip)
  (folder / 'one').symlink_to('../elsewhere')
  (folder / 'two').symlink_to('../elsewhere')
  (folder / 'round').symlink_to('.')
  (elsewhere / 'deep' / 'up').symlink_to('..')
  lines = ['one/a.mkv', 'two/deep/b.mkv', 'two/a.mkv']
  report, written = small(folder, lines, tmp_path / 'out')
  assert written == {'one/a.mkv': 'film one/a.mkv', 'one/deep/b.mkv': 'film two/deep/b.mkv'}
  assert report['skipped'] == {
    'one/unsaid.mkv': 'no line in the captions',
    'two/a.mkv': 'another name of one/a.mkv, which has a line',
  }


def test_accents_in_another_form_are_found(clip, tmp_path):
  folder = tmp_path / 'videos'
  folder.mkdir()
  for name in ('cafe\u0301', 'u\u0308ber', '\xfcber', '\uac00'):
    (folder / f'{name}.mkv').write_bytes(clip)
  lines = ['caf\xe9.mkv', '\xfcber.mkv', 'u\u0308ber.mkv', '\u1100\u1161.mkv', 'cafe.mkv']
  report, written = small(folder, lines, tmp_path / 'out')
  assert written == {
    'cafe\u0301.mkv': 'film caf\xe9.mkv',
    '\xfcber.mkv': 'film \xfcber.mkv',
    'u\u0308ber.mkv': 'film u\u0308ber.mkv',
    '\uac00.mkv': 'film \u1100\u1161.mkv',
  }
  assert report['skipped'] == {'cafe.mkv': 'no such file'}


def test_a_failed_build_leaves_only_what_continues_it(videos, tmp_path, monkeypatch):
  def write(videos, clips, out, shards):
    (out / 'half').write_text('written')
    raise OSError('No space left on device')

  monkeypatch.setattr(dataset, 'write', write)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(OSError, match='No space left') as error:
    built(videos, LINES, pathlib.Path('out'), min_frames=1, workers=1)
  assert 'out.parts: the same command continues it' in error.value.__notes__[0]
  assert sorted(p.name for p in tmp_path.iterdir()) == ['out.parts', 'videos']


def test_mistakes_are_reported(videos, tmp_path):
  out = tmp_path / 'out'
  with pytest.raises(ValueError, match=r'There is no folder .*none; --videos is'):
    built(tmp_path / 'none', LINES, out)
  with pytest.raises(ValueError, match='exists and is not a dataset; allowed is a new or an'):
    built(videos, LINES, videos, overwrite=True)
  (tmp_path / 'link').symlink_to(videos)
  for inside in (videos / 'a' / 'out', tmp_path / 'link' / 'out'):
    with pytest.raises(
      ValueError, match=r'--out=.*/out inside of --videos=.*; allowed is a folder'
    ):
      built(videos, LINES, inside)
    assert not (videos / 'a').exists()
  with pytest.raises(ValueError, match='Got --fps=0; more than 0 is allowed'):
    built(videos, LINES, out, fps=0.0)
  with pytest.raises(ValueError, match='Got --min_side=-1; 0 or more is allowed'):
    built(videos, LINES, out, min_side=-1)
  for name, value in (('validation', 1.0), ('validation', -0.1), ('workers', 0), ('shards', 0)):
    with pytest.raises(ValueError, match=rf'Got --{name}={value:g}; '):
      built(videos, LINES, out, **{name: value})
  with pytest.raises(
    ValueError, match=r'can be used: cut\.mkv: no line in the captions; .*; \.\.\.; 1 en'
  ):
    built(videos, {'none.mkv': LINES['none.mkv']}, out)
  assert not out.exists()


def test_more_shards_than_clips_are_refused_before_any_is_decoded(videos, tmp_path, monkeypatch):
  monkeypatch.setattr(processing, 'process', None)
  with pytest.raises(ValueError, match=r"Got 5 shards; 'train' has at most 4 clips, so 1\.\.4 are"):
    built(videos, LINES, tmp_path / 'out', shards=5)
  assert not (tmp_path / 'out').exists()


def test_the_command_tells_a_mistake_in_one_line(videos, tmp_path):
  (tmp_path / 'captions.jsonl').write_text('{"file": "long.mkv", "caption": "a film"}\nnonsense\n')
  flags = {'videos': videos, 'captions': tmp_path / 'captions.jsonl', 'out': tmp_path / 'out'}
  options = ['--strict', *(f'--{k}={v}' for k, v in flags.items())]
  command = [sys.executable, '-m', 'data.builder', *options]
  ended = subprocess.run(command, capture_output=True, text=True, check=False)
  assert ended.returncode == 2
  assert ended.stderr.startswith('error: captions.jsonl, line 2: no JSON')
  assert ended.stderr.count('\n') == 1
  assert not (tmp_path / 'out').exists()


def test_the_command_builds_from_captions_beside_the_videos(tmp_path):
  """With its own limits: of two copies and a still video, one clip of each scene is written."""
  videos = tmp_path / 'videos'
  videos.mkdir()
  two = np.concatenate([panning(0, 20), panning(1, 20)])
  for name, pictures in {'a': two, 'b': two, 'still': panning(2, 20, step=0)}.items():
    (videos / f'{name}.mkv').write_bytes(encoded(pictures, np.arange(len(pictures)) * 100))
    (videos / f'{name}.txt').write_text(f'film {name}')
  (videos / 'none.txt').write_text('no video')
  out = tmp_path / 'out'
  options = [f'--videos={videos}', f'--out={out}', '--min_frames=16', '--workers=1']
  command = [sys.executable, '-m', 'data.builder', *options]
  ended = subprocess.run(command, capture_output=True, text=True, check=True)
  assert ended.stdout.splitlines() == [
    'Captions are read from files beside the videos.',
    f'{out}: written 2 (2 train) and left out 3; 0 files are damaged; pictures and reasons in '
    f'{out / "report.html"}',
    'The least height is 48 pixels, the least width 64; the shortest clip has 2 seconds.',
    'Left out: 2 duplicate, 1 frozen.',
    'Lines of the captions that cannot be used: 1 missing file; see manifest of the report.',
  ]
  records = dataset.Videos(str(out), size=8, frames=16, fps=16.0)._records
  written = [(r['file'], r['caption'], round(float(r['start']), 2)) for r in records]
  assert written == [(b'a.mkv', b'film a', 0.0), (b'a.mkv', b'film a', 2.0)]


REAL = {
  'decord__corrupted.mp4': None,
  'fetv_gt__001.gif': None,
  'lumiere__text-to-video__hitchiker.webm': None,
  'mediapy__video.mp4': '6 frames at 16 a second; at least 32 are needed',
  'mp4parse-rust__video_rotation_90.mp4': '1 frames at 16 a second; at least 32 are needed',
  'libwebm__invalid_vp9_bitstream-bug_1416.webm': 'frames of 12336 x 12336 pixels',
  'mp4ff__init_truncated.mp4': 'no video stream',
  'mp4parse-rust__chunk_out_of_range.mp4': 'cannot be opened',
  'mp4parse-rust__invalid_userdata.mp4': 'no decodable frame',
  'streamio-ffmpeg__sideways_movie.mov': '17 frames at 16 a second; at least 32 are needed',
  'small__FlashVideo.flv': 'cannot be opened',
  'torchvision__TrumanShow_wave_f_nm_np1_fr_med_26.avi': '27 frames',
}


@needs_data
def test_real_files_are_written_or_skipped_with_a_reason(tmp_path):
  (tmp_path / 'videos').mkdir()
  for file in REAL:
    shutil.copy(FOLDER / file, tmp_path / 'videos' / file)
  lines = {file: Line('a film', 'train') for file in REAL}
  report = built(tmp_path / 'videos', lines, tmp_path / 'out', min_frames=32, shards=2)
  assert report['written'] == 3
  assert list(report['damaged']) == ['decord__corrupted.mp4']
  assert report['damaged']['decord__corrupted.mp4'].startswith('damaged, after 28 frames')
  reasons = {file: reason for file, reason in REAL.items() if reason}
  assert report['skipped'].keys() == reasons.keys()
  for file, reason in reasons.items():
    assert report['skipped'][file].startswith(reason)
  source = dataset.Videos(str(tmp_path / 'out'), size=16, frames=32, fps=16.0, crop='random')
  assert {source[i]['video'].shape for i in range(3)} == {(32, 16, 16, 3)}


@needs_data
def test_the_captions_of_the_data_folder_are_read():
  lines = manifest.read(FOLDER / 'captions.jsonl').lines
  assert lines['c3d__v_ApplyEyeMakeup_g01_c01.avi'].caption == 'apply eye makeup'
  assert lines['tune-a-video__car-turn.mp4'].caption == 'a jeep car is moving on the road'
