import contextlib
import fractions
import gc
import hashlib
import itertools
import json
import os
import pathlib
import struct

import numpy as np
import pytest

from core import command
from core.errors import UserError
from data import decode, streams
from tests.data.videos import encoded, numbered

FOLDER = pathlib.Path(os.environ.get('LUMIERE_DATA', 'none'), 'videos')
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason='LUMIERE_DATA is not set')


def shown(*args, **kwargs):
  return decode.decode(*args, **kwargs)[:, 0, 0, 0].tolist()


@pytest.mark.parametrize('fps', [4.0, 16.0, 29.97, 60.0])
def test_each_time_shows_the_last_frame_presented_by_then(fps):
  gaps = np.random.default_rng(0).integers(20, 300, 40)
  times = 500 + np.cumsum(gaps)
  file = encoded(numbered(40), times)
  since = (times - times[0]) / 1000
  wanted = np.arange(0, since[-1], 1 / fps)
  expected = [int(np.flatnonzero(since <= t + decode.SLACK)[-1]) for t in wanted]
  assert shown(file, fps=fps)[: len(expected)] == expected


def test_the_error_of_a_damaged_file_is_reported_once(tmp_path, capsys):
  """Such an error was its own cause, and whoever followed the causes never came to an end."""
  (tmp_path / 'a.mp4').write_bytes(b'no video')
  with pytest.raises(UserError, match=r'a\.mp4: cannot be opened') as error:
    shown(tmp_path / 'a.mp4', count=9)
  assert error.value.__cause__ is not error.value
  file = encoded(numbered(4), np.arange(4) * 100)
  with pytest.raises(UserError, match='ends early: 4 of 9 frames at 10 a second') as early:
    shown(file, fps=10.0, count=9)
  for one in (error.value, early.value):
    assert command.report(one) == 2
  assert capsys.readouterr().err.count('error: ') == 2


def test_a_frame_keeps_no_thread():
  file, count = (
    encoded(numbered(30), np.arange(30) * 100),
    lambda: len(os.listdir('/proc/self/task')),
  )
  shown(file)
  gc.collect()
  before = count()
  gc.disable()
  try:
    shown(file)
    assert count() <= before
  finally:
    gc.enable()


def test_times_which_a_container_rounds_are_still_one_frame_each():
  times = np.rint(np.arange(80) * 1000 / 16)
  assert shown(encoded(numbered(80), times), fps=16.0)[:79] == list(range(79))


@pytest.mark.parametrize(('container', 'lossless'), [('matroska', 'ffv1'), ('mov', 'png')])
def test_the_last_frame_is_shown_as_long_as_the_one_before(container, lossless):
  # These files have one clock tick as the duration of a frame.
  file = encoded(numbered(30), np.arange(30) * 100, container, lossless=lossless)
  assert shown(file, fps=20.0) == [k // 2 for k in range(60)]
  assert shown(encoded(numbered(1), [0], container, lossless=lossless)) == [0]


@pytest.mark.parametrize('start', [0.0, 2.5, 5.5, 9.0])
def test_a_window_is_part_of_the_whole(start):
  file = encoded(numbered(120), np.arange(120) * 100)
  whole = shown(file, fps=10.0)
  first = round(10 * start)
  assert shown(file, fps=10.0, start=start, count=20) == whole[first : first + 20]


@pytest.mark.parametrize('offset', [2.0, 1000.0])
def test_a_window_is_right_where_the_container_searches_wrong(monkeypatch, offset):
  class Container:
    def __init__(self, container):
      self._honest = container

    def __getattr__(self, name):
      return getattr(self._honest, name)

    def seek(self, time, stream):
      self._honest.seek(int(time + offset / stream.time_base), stream=stream)

  @contextlib.contextmanager
  def opened(file, max_pixels, honest=streams.opened):
    with honest(file, max_pixels) as (container, stream):
      yield Container(container), stream

  monkeypatch.setattr(streams, 'opened', opened)
  file = encoded(numbered(100), np.arange(100) * 100)
  assert shown(file, fps=10.0, start=6.0, count=20) == list(range(60, 80))


def test_available_counts_what_decode_finds():
  for count in (1, 7, 16):
    file = encoded(numbered(count), np.arange(count) * 137)
    seconds = decode.probe(file).seconds
    for fps in (3.0, 7.3, 16.0):
      assert decode.available(seconds, fps) == len(shown(file, fps=fps))


def test_a_path_and_its_contents_are_the_same(tmp_path):
  file = encoded(numbered(5), np.arange(5) * 100)
  (tmp_path / 'video').write_bytes(file)
  assert shown(tmp_path / 'video') == shown(file)


@pytest.mark.parametrize('a', [1, -1])
@pytest.mark.parametrize('d', [1, -1])
@pytest.mark.parametrize('swap', [False, True])
def test_frames_are_turned_as_their_matrix_tells(a, d, swap):
  picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
  file = encoded(picture[None], [0], container='mov', lossless='png')
  b, c = (d, a) if swap else (0, 0)
  a, d = (0, 0) if swap else (a, d)
  one = 1 << 16
  matrix = struct.pack('>9i', a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
  at = file.index(b'tkhd') + 44  # the track header's matrix, ISO/IEC 14496-12, 8.3.2
  file = file[:at] + matrix + file[at + len(matrix) :]

  expected = {}
  for y, x in np.ndindex(16, 24):
    expected[b * x + d * y, a * x + c * y] = picture[y, x]
  rows, columns = (sorted({place[i] for place in expected}) for i in (0, 1))
  upright = np.array([[expected[y, x] for x in columns] for y in rows])
  np.testing.assert_array_equal(decode.decode(file)[0], upright)
  facts = decode.probe(file)
  assert (facts.height, facts.width) == upright.shape[:2]


def test_pixels_become_square():
  file = encoded(numbered(2), [0, 100], 'mov', aspect='3/2', lossless='png')
  assert decode.decode(file).shape[1:] == (16, 24, 3)
  assert decode.decode(file, size=8).shape[1:] == (8, 12, 3)
  assert decode.probe(file).width == 24


def test_a_cut_file_ends_where_it_is_cut():
  pictures = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
  file = encoded(pictures, np.arange(20) * 100)
  cut = file[: int(0.6 * len(file))]
  frames = decode.decode(cut, fps=10.0)
  assert 5 < len(frames) < 15
  np.testing.assert_array_equal(frames, pictures[: len(frames)])
  with pytest.raises(ValueError, match=f'ends early: {len(frames)} of 20 frames at 10 a second'):
    decode.decode(cut, fps=10.0, count=20)


def test_frames_too_large_are_refused(tmp_path, monkeypatch):
  file = encoded(numbered(2), [0, 100])
  monkeypatch.setattr(decode, 'MAX_PIXELS', 255)
  with pytest.raises(ValueError, match='16 x 16 pixels; at most 255'):
    decode.decode(file)
  monkeypatch.setattr(decode, 'MAX_PIXELS', 2000)
  (tmp_path / 'a.mkv').write_bytes(file)
  assert len(decode.decode(tmp_path / 'a.mkv', size=44))
  with pytest.raises(
    ValueError, match=rf'^{tmp_path}/a.mkv: frames of 45 x 45 pixels; at most 2000'
  ):
    decode.decode(tmp_path / 'a.mkv', size=45)


def test_mistakes_are_reported(tmp_path):
  with pytest.raises(ValueError, match=r'none\.mp4: cannot be opened: No such file'):
    decode.decode(tmp_path / 'none.mp4')
  with pytest.raises(ValueError, match='cannot be opened: Invalid data'):
    decode.decode(b'this is no video' * 100)
  file = encoded(numbered(2), [0, 100])
  with pytest.raises(ValueError, match='ends early: 0 of 1 frames'):
    decode.decode(file, start=9.0)
  with pytest.raises(ValueError, match=r'Got fps=0\.0, start=0 and count=None; allowed are'):
    decode.decode(file, fps=0.0)
  with pytest.raises(ValueError, match='count=0'):
    decode.decode(file, count=0)


PROBED = (
  *('c3d__v_ApplyEyeMakeup_g01_c01.avi', 'fetv_gt__001.gif', 'imageio-binaries__newtonscradle.gif'),
  *('libwebm__block_ends_beyond_cluster.mkv', 'moviepy__no_duration.webm', 'mmaction2__demo.mp4'),
  *('mp4parse-rust__bbb_sunflower_QCIF_30fps_h263_noaudio_1f.3gp', 'rails__rotated_video.mp4'),
  'streamio-ffmpeg__awesome_movie.mov',
  *('torchcodec__h264_10bits.mp4', 'torchcodec__h265_video.mp4', 'small__gif-transparent.gif'),
  *('torchvision__TrumanShow_wave_f_nm_np1_fr_med_26.avi', 'mp4parse-rust__tiny_av1.mp4'),
  *('node-fluent-ffmpeg__te_s_t__video_____.flv', 'decord__corrupted.mp4', 'decord__video_90.mov'),
)
HOSTILE = {
  'libwebm__invalid_vp9_bitstream-bug_1416.webm': 'frames of 12336 x 12336 pixels',
  'mp4ff__init_truncated.mp4': 'no video stream',
  'mp4parse-rust__chunk_out_of_range.mp4': 'cannot be opened',
  'mp4parse-rust__invalid_userdata.mp4': 'no decodable frame',
  'rails__video_without_video_stream.mp4': 'no video stream',
  'small__AudioVideoInterleave.avi': 'no decodable frame',
  'small__FlashVideo.flv': 'cannot be opened',
  'small__WindowsMediaVideo.wmv': 'no decodable frame',
  'streamio-ffmpeg__empty.flv': 'cannot be opened',
}


@needs_data
@pytest.mark.parametrize('name', PROBED)
def test_stored_frames_are_those_which_were_probed(name):
  known = {v['file']: v for v in json.loads((FOLDER / 'PROBE.json').read_text())}[name]
  facts = decode.probe(FOLDER / name)
  assert facts.frames == known['n']
  assert (facts.fault is None) == (known['decode_error'] is None)
  pixels = facts.width * facts.height / (known['w'] * known['h'])
  assert pixels == pytest.approx(float(fractions.Fraction(known['sar'] or 1)), rel=0.01)
  frames = itertools.islice(decode.read(FOLDER / name), known['n'])
  pictures = {str(i): f.image for i, f in enumerate(frames) if str(i) in known['frames_rgb24']}
  sums = {
    i: hashlib.md5(p.to_ndarray(format='rgb24').tobytes()).hexdigest() for i, p in pictures.items()
  }
  assert sums == {i: frame['md5'] for i, frame in known['frames_rgb24'].items()}


@needs_data
@pytest.mark.parametrize('name', HOSTILE)
def test_hostile_files_are_refused_with_a_reason(name):
  for use in (decode.decode, decode.probe):
    with pytest.raises(ValueError, match=f'{name}: .*{HOSTILE[name]}'):
      use(FOLDER / name)


@needs_data
def test_a_damaged_file_gives_what_it_has_and_no_more():
  file = FOLDER / 'decord__corrupted.mp4'
  assert len(decode.decode(file, fps=10.0, size=16)) == 28
  with pytest.raises(ValueError, match='ends early: 28 of 50'):
    decode.decode(file, fps=10.0, size=16, count=50)


@needs_data
def test_a_file_that_is_cut_in_a_frame_ends_before_it():
  # The last two of the 36 frames that FFmpeg gives: half of one is guessed, and the other, which
  # is shown after it, has none before it.
  facts = decode.probe(FOLDER / 'streamio-ffmpeg__weird_aspect.small.mpg')
  assert (facts.frames, facts.width) == (34, 501)
  assert facts.fault.endswith('damaged, after 34 frames: the decoder flags a frame as corrupt')


@needs_data
def test_of_two_streams_that_of_more_bits_is_taken_in_a_real_file():
  # The streams have 320 x 180 and 480 x 270 pixels, and none is marked as default.
  facts = decode.probe(FOLDER / 'torchcodec__nasa_13013.mp4')
  assert (facts.frames, facts.width, facts.height) == (390, 480, 270)


@needs_data
def test_a_film_at_ten_frames_a_second_is_shown_at_sixteen():
  file = FOLDER / 'pyscenedetect__counter.mp4'
  stored, resampled = (decode.decode(file, fps=fps, size=64) for fps in (10.0, 16.0))
  assert (len(stored), len(resampled)) == (30, 48)
  np.testing.assert_array_equal(resampled, stored[np.arange(48) * 10 // 16])


@needs_data
def test_frames_of_old_avi_files_stay_in_the_decoders_order():
  # Their times are out of order: frames sorted by them would jump to and fro.
  images = list(decode.read(FOLDER / 'c3d__v_ApplyEyeMakeup_g01_c01.avi'))[:60]
  assert all(a.time < b.time for a, b in itertools.pairwise(images))
  pictures = [f.image.to_ndarray(format='gray').astype(float) for f in images]
  jump = np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(pictures)])
  order = np.argsort([f.image.pts for f in images], kind='stable')
  moved = [pictures[i] for i in order]
  assert jump < 0.8 * np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(moved)])


@needs_data
@pytest.mark.parametrize('name', ['php-ffmpeg__Test.ogv', 'lumiere__text-to-video__hitchiker.webm'])
def test_a_sought_window_is_part_of_the_whole_in_real_files(name, monkeypatch):
  monkeypatch.setattr(decode, 'FAR', 1.0)
  whole = decode.decode(FOLDER / name, size=16, count=64)
  window = decode.decode(FOLDER / name, size=16, start=3.0, count=16)
  np.testing.assert_array_equal(window, whole[48:])


def test_without_a_rate_all_stored_frames_come():
  file = encoded(numbered(9), [0, 100, 300, 700, 800, 1000, 1500, 1600, 1700])
  assert shown(file, fps=None) == list(range(9))
  assert shown(file, fps=None, start=0.7, count=3) == [3, 4, 5]
