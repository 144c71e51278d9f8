import gc
import time

import numpy as np
import pytest

from core import processors, video
from evaluation.clips import Reading, batched, clips, read
from evaluation.folder import open_folder
from tests.evaluation.conftest import numbered, refuse


def first(clip):
  return clip[:, 0, 0, 0].tolist()


def test_first_window_and_stride(folder):
  assert [first(c) for c in read(folder / 'b.npy', Reading(3, stride=2))] == [[0, 2, 4]]


def test_all_windows_have_no_frame_in_common(folder):
  result = read(folder / 'b.npy', Reading(2, stride=2, windows='all'))
  assert [first(c) for c in result] == [[0, 2], [3, 5], [6, 8]]


def test_no_number_of_frames_is_all_of_them(folder):
  assert first(next(read(folder / 'b.npy', Reading(0)))) == list(range(9))
  assert first(next(read(folder / 'b.npy', Reading(0, stride=4)))) == [0, 4, 8]


def test_stored_frames_and_a_rate(tmp_path):
  path = tmp_path / 'v.mp4'
  shown = np.repeat(25 * numbered(6, 16), 1, 0)
  video.write(path, shown, fps=8.0)
  stored, sampled = (next(read(path, Reading(4, fps))).mean((1, 2, 3)) for fps in (None, 16.0))
  np.testing.assert_allclose(stored, [0, 25, 50, 75], atol=2)
  np.testing.assert_allclose(sampled, [0, 0, 25, 25], atol=2)


def test_short_videos_are_skipped_with_the_reason(folder):
  skipped = {}
  result = dict(clips(open_folder(folder), Reading(4), first, skip=skipped.__setitem__))
  assert result == {'a.npy': [0, 1, 2, 3], 'b.npy': [0, 1, 2, 3]}
  assert skipped == {'deep/c.npy': f'{folder}/deep/c.npy ends early: 3 of 4 frames.'}


def test_arrays_are_read_in_threads_while_garbage_is_collected(tmp_path, monkeypatch):
  """A callback of the collector, of which JAX has one, lets other threads go on meanwhile; what may
  come of it, Python 3.11.8 and 3.12.2 have mended."""
  for i in range(100):
    np.save(tmp_path / f'{i}.npy', numbered(2, 1))
  monkeypatch.setattr(processors, 'available', lambda: 4)
  threshold, wait = gc.get_threshold(), lambda *_: time.sleep(1e-4)
  gc.callbacks.append(wait)
  gc.set_threshold(50)
  try:
    result = list(clips(open_folder(tmp_path), Reading(1), first, skip=refuse))
  finally:
    gc.callbacks.remove(wait)
    gc.set_threshold(*threshold)
  assert len(result) == 100


@pytest.mark.parametrize(
  'broken',
  [
    b'',
    b'no video at all',
    b'\0' * 5000,
    b'PK\3\4',
    b'\x93NUMPY\1\0\5\0{"a\n',
    b'\x93NUMPY\1\0\2\0{}',
  ],
)
def test_broken_files_are_skipped_with_the_reason(folder, broken):
  (folder / 'z.mp4').write_bytes(broken)
  np.save(folder / 'y.npy', np.zeros(3))
  np.save(folder / 'w.npy', np.zeros((16, 0, 5, 3), np.uint8))
  (folder / 'x.NPY').write_bytes(broken)
  (folder / 'frames.mp4').mkdir()
  (folder / 'gone.mp4').symlink_to('nowhere')
  skipped, result = {}, open_folder(folder)
  list(clips(result, Reading(2), first, skip=skipped.__setitem__))
  result.digest()
  assert sorted(skipped) == ['w.npy', 'x.NPY', 'y.npy', 'z.mp4']
  assert all(str(folder / file) in reason for file, reason in skipped.items())


@pytest.mark.parametrize('reading', [Reading(0), Reading(4, windows='all')])
def test_damage_is_an_error_where_all_of_a_video_is_read(tmp_path, reading):
  noise = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
  video.write(tmp_path / 'whole.gif', noise)
  (tmp_path / 'cut.gif').write_bytes((tmp_path / 'whole.gif').read_bytes()[:-2000])
  skipped = {}
  result = dict(clips(open_folder(tmp_path), reading, len, skip=skipped.__setitem__))
  assert result.keys() == {'whole.gif'}
  assert skipped.keys() == {'cut.gif'}
  begun = clips(open_folder(tmp_path), Reading(4), len, skip=refuse)
  assert dict(begun).keys() == {'whole.gif', 'cut.gif'}


def test_a_count_is_exact_and_drawn_by_the_seed(folder):
  for i in range(20):
    np.save(folder / f'n{i}.npy', numbered(2))

  def draw(seed):
    result = clips(open_folder(folder), Reading(2), first, skip=refuse, count=8, seed=seed)
    return [file for file, _ in result]

  assert draw(0) == draw(0) != draw(1)
  assert len(set(draw(0))) == 8


def test_too_few_are_an_error(folder):
  few = r'has 2 clips of 4 frames, and 3 are asked for\.  1 videos are of no use, as: .*c\.npy ends'
  with pytest.raises(ValueError, match=few):
    list(clips(open_folder(folder), Reading(4), first, skip=lambda *_: None, count=3))
  none = r'has 0 clips of 10 frames, and there is none to score\.  3 videos are of no use, as: '
  with pytest.raises(ValueError, match=none):
    list(clips(open_folder(folder), Reading(10), first, skip=lambda *_: None))


def test_batches_keep_order_and_the_rest():
  result = list(batched([(str(i), np.full(2, i)) for i in range(5)], 2))
  assert [b[:, 0].tolist() for b in result] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize(
  ('wrong', 'message'),
  [
    ({'frames': -1}, 'Got -1 frames, every 1. of all a second; allowed are 1 or more'),
    ({'frames': 2, 'fps': -1.0}, 'Got 2 frames, every 1. of -1.0 a second'),
    ({'frames': 2, 'windows': 'last'}, "Got windows='last'; allowed are first, all."),
  ],
)
def test_what_is_no_clip(wrong, message):
  with pytest.raises(ValueError, match=message):
    Reading(**wrong)
