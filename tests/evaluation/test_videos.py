import gc
import hashlib
import json
import os
import time

import numpy as np
import pytest

from core import video
from data import captions
from evaluation.videos import Folder, Reading, batched, clips, open_folder, read


def numbered(frames, side=8):
  """A video of which every frame is of its number."""
  return np.tile(np.arange(frames, dtype=np.uint8)[:, None, None, None], (1, side, side, 3))


def refuse(file, reason):
  raise AssertionError(f'{file} was skipped: {reason}')


def first(clip):
  return clip[:, 0, 0, 0].tolist()


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'deep').mkdir()
  for name, frames in {'b': 9, 'a': 5, 'deep/c': 3}.items():
    np.save(tmp_path / f'{name}.npy', numbered(frames))
  (tmp_path / '.hidden.mp4').write_bytes(b'')
  (tmp_path / 'notes.txt').write_text('none')
  return tmp_path


def test_videos_are_found_in_order(folder):
  assert open_folder(folder).files == ('a.npy', 'b.npy', 'deep/c.npy')


def test_first_window_and_stride(folder):
  assert [first(c) for c in read(folder / 'b.npy', Reading(3, stride=2))] == [[0, 2, 4]]


def test_all_windows_have_no_frame_in_common(folder):
  found = read(folder / 'b.npy', Reading(2, stride=2, windows='all'))
  assert [first(c) for c in found] == [[0, 2], [3, 5], [6, 8]]


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


def test_what_is_too_short_is_told_of_and_left_out(folder):
  skipped = {}
  found = dict(clips(open_folder(folder), Reading(4), first, skip=skipped.__setitem__))
  assert found == {'a.npy': [0, 1, 2, 3], 'b.npy': [0, 1, 2, 3]}
  assert skipped == {'deep/c.npy': f'{folder}/deep/c.npy ends early: 3 of 4 frames.'}


def test_arrays_are_read_in_threads_while_garbage_is_collected(tmp_path, monkeypatch):
  """A callback of the collector, of which JAX has one, lets other threads go on meanwhile; what may
  come of it, Python 3.11.8 and 3.12.2 have mended."""
  for i in range(100):
    np.save(tmp_path / f'{i}.npy', numbered(2, 1))
  monkeypatch.setattr(os, 'cpu_count', lambda: 4)
  threshold, wait = gc.get_threshold(), lambda *_: time.sleep(1e-4)
  gc.callbacks.append(wait)
  gc.set_threshold(50)
  try:
    found = list(clips(open_folder(tmp_path), Reading(1), first, skip=refuse))
  finally:
    gc.callbacks.remove(wait)
    gc.set_threshold(*threshold)
  assert len(found) == 100


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
def test_broken_files_are_told_of_and_left_out(folder, broken):
  (folder / 'z.mp4').write_bytes(broken)
  np.save(folder / 'y.npy', np.zeros(3))
  np.save(folder / 'w.npy', np.zeros((16, 0, 5, 3), np.uint8))
  (folder / 'x.NPY').write_bytes(broken)
  (folder / 'frames.mp4').mkdir()
  (folder / 'gone.mp4').symlink_to('nowhere')
  skipped, found = {}, open_folder(folder)
  list(clips(found, Reading(2), first, skip=skipped.__setitem__))
  found.digest()
  assert sorted(skipped) == ['w.npy', 'x.NPY', 'y.npy', 'z.mp4']
  assert all(str(folder / file) in reason for file, reason in skipped.items())


@pytest.mark.parametrize('reading', [Reading(0), Reading(4, windows='all')])
def test_damage_is_told_of_where_all_of_a_video_is_asked_for(tmp_path, reading):
  noise = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
  video.write(tmp_path / 'whole.gif', noise)
  (tmp_path / 'cut.gif').write_bytes((tmp_path / 'whole.gif').read_bytes()[:-2000])
  skipped = {}
  found = dict(clips(open_folder(tmp_path), reading, len, skip=skipped.__setitem__))
  assert found.keys() == {'whole.gif'}
  assert skipped.keys() == {'cut.gif'}
  begun = clips(open_folder(tmp_path), Reading(4), len, skip=refuse)
  assert dict(begun).keys() == {'whole.gif', 'cut.gif'}


def test_a_count_is_exact_and_drawn_by_the_seed(folder):
  for i in range(20):
    np.save(folder / f'n{i}.npy', numbered(2))

  def draw(seed):
    found = clips(open_folder(folder), Reading(2), first, skip=refuse, count=8, seed=seed)
    return [file for file, _ in found]

  assert draw(0) == draw(0) != draw(1)
  assert len(set(draw(0))) == 8


def test_too_few_are_an_error(folder):
  few = r'has 2 clips of 4 frames, and 3 are asked for\.  1 videos are of no use, as: .*c\.npy ends'
  with pytest.raises(ValueError, match=few):
    list(clips(open_folder(folder), Reading(4), first, skip=lambda *_: None, count=3))
  none = r'has 0 clips of 10 frames, and there is none to score\.  3 videos are of no use, as: '
  with pytest.raises(ValueError, match=none):
    list(clips(open_folder(folder), Reading(10), first, skip=lambda *_: None))


def test_digest_tells_names_and_contents_apart(folder):
  before = open_folder(folder).digest()
  assert before == open_folder(folder).digest()
  (folder / 'a.npy').rename(folder / 'd.npy')
  renamed = open_folder(folder).digest()
  np.save(folder / 'd.npy', numbered(6))
  assert len({before, renamed, open_folder(folder).digest()}) == 3


def test_prompts_are_those_of_the_index(folder):
  index = folder / 'index.jsonl'
  lines = [{'file': file, 'prompt': f'of {file}'} for file in open_folder(folder).files]
  index.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  assert open_folder(folder).prompts()['deep/c.npy'] == 'of deep/c.npy'
  index.write_text(json.dumps(lines[0]))
  with pytest.raises(ValueError, match=r'has no prompt of 2 videos, as b\.npy; in index\.jsonl'):
    open_folder(folder).prompts()
  index.write_text('[]')
  with pytest.raises(ValueError, match=r'index\.jsonl, line 1: allowed is a JSON object'):
    open_folder(folder).prompts()
  index.unlink()
  with pytest.raises(ValueError, match=r'has no prompt of 3 videos, as a\.npy; in index\.jsonl'):
    open_folder(folder).prompts()


def test_what_made_the_videos_is_what_the_index_says_of_all(folder):
  index, files = folder / 'index.jsonl', open_folder(folder).files
  of = lambda i, file: {
    'file': file,
    'prompt': 'same',
    'number': str(i),
    'model': 'm',
    'at': i // 2,
  }
  lines = [of(i, file) for i, file in enumerate([*files, 'gone.mp4'])]
  index.write_text('\n'.join(map(json.dumps, lines)))
  assert open_folder(folder).made_by() == {'model': 'm'}
  index.write_text('\n'.join(map(json.dumps, lines[1:])))
  assert open_folder(folder).made_by() == {}
  for foreign in ('{"video": "a.npy"}', '{"file": ["a.npy"]}', '[]', 'none'):
    index.write_text(foreign)
    assert open_folder(folder).made_by() == {}
  index.unlink()
  assert open_folder(folder).made_by() == {}


@pytest.mark.parametrize(
  ('line', 'prompt'),
  [
    ({'prompt': 'a dog', 'caption': 'no'}, 'a dog'),
    ({'prompt': ' ', 'caption': 'a\u2028dog\x85'}, 'a\u2028dog'),
    ({'caption': None, 'label': 'UCF101:ApplyEyeMakeup', 'split': 'test'}, 'apply eye makeup'),
  ],
)
@pytest.mark.parametrize('name', ['index.jsonl', 'captions.jsonl'])
def test_captions_are_read_as_the_builder_reads_them(tmp_path, line, prompt, name):
  np.save(tmp_path / 'a.npy', numbered(2))
  text = json.dumps({'file': './a.npy'} | line, ensure_ascii=False)
  (tmp_path / name).write_bytes(b'\xef\xbb\xbf' + text.encode() + b'\r\n\r\n')
  assert open_folder(tmp_path).prompts() == {'a.npy': prompt}
  if 'prompt' not in line:
    assert captions.read(tmp_path / name)['a.npy'].caption == prompt


@pytest.mark.parametrize(
  ('data', 'reason'),
  [
    (
      b'{"file": "a.npy", "prompt": "a \\ud83d dog"}',
      r'line 1: "a \\ud83d dog" has \\ud83d, which is',
    ),
    (b'\n{"file": "a.npy", "caption": "caf\xe9"}', 'line 2: byte 0xe9 is not UTF-8, but perhaps'),
    ('{"file": "a.npy"}'.encode('utf-16'), 'it is UTF-16, or not text; allowed is UTF-8'),
    (b'{"file": "a.npy", "label": 3}', 'line 1: allowed is a JSON object .* got the label 3'),
  ],
)
def test_prompts_that_are_no_clean_text_are_refused(tmp_path, data, reason):
  np.save(tmp_path / 'a.npy', numbered(2))
  (tmp_path / 'captions.jsonl').write_bytes(data)
  with pytest.raises(ValueError, match=rf'captions\.jsonl, {reason}[^\n]*\.$'):
    open_folder(tmp_path).prompts()


def test_a_file_that_has_a_line_is_a_video_whatever_its_name(tmp_path):
  video.write(tmp_path / 'v.mp4', numbered(4, 16))
  (tmp_path / 'v.mp4').rename(tmp_path / 'v.movie')
  np.save(tmp_path / 'a.npy', numbered(2))
  (tmp_path / 'other.movie').write_text('none')
  assert open_folder(tmp_path).files == ('a.npy',)
  (tmp_path / 'captions.jsonl').write_text('{"file": "v.movie"}\n{"file": "none.movie"}')
  assert open_folder(tmp_path).files == ('a.npy', 'v.movie')
  assert dict(clips(open_folder(tmp_path), Reading(0), len, skip=refuse))['v.movie'] == 4


def test_folders_behind_links_are_read_once(folder):
  elsewhere = folder.parent / f'{folder.name}_elsewhere'
  elsewhere.mkdir()
  np.save(elsewhere / 'e.npy', numbered(2))
  (folder / 'part').symlink_to(elsewhere)
  (folder / 'again').symlink_to('part')
  (folder / 'deep' / 'round').symlink_to('..')
  (elsewhere / 'back').symlink_to(folder)
  found = open_folder(folder).files
  assert found == ('a.npy', 'again/e.npy', 'b.npy', 'deep/c.npy')
  lines = [{'file': 'part/e.npy', 'caption': 'one'}, {'file': 'deep/round/a.npy', 'caption': 'two'}]
  (folder / 'captions.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  assert open_folder(folder).some_prompts() == {'again/e.npy': 'one', 'a.npy': 'two'}
  (folder / 'captions.jsonl').write_text(
    '\n'.join(map(json.dumps, [{'file': 'a.npy', 'caption': 'own'}, *lines]))
  )
  assert open_folder(folder).some_prompts() == {'again/e.npy': 'one', 'a.npy': 'own'}


def test_names_that_are_not_utf_8_or_of_another_form(folder):
  sums = [(n, hashlib.sha256((folder / n).read_bytes()).hexdigest()) for n in ('a.npy', 'b.npy')]
  listed = ''.join(f'{name}\0{of}\n' for name, of in sums)
  total = Folder(folder, ('a.npy', 'b.npy')).digest()
  assert total == hashlib.sha256(listed.encode()).hexdigest()
  for name in ('caf\udce9.npy', 'cafe\u0301.npy'):
    np.save(folder / name, numbered(2))
  (folder / 'captions.jsonl').write_text(
    '{"file": "caf\\udce9.npy", "caption": "one"}\n{"file": "caf\\u00e9.npy", "caption": "two"}'
  )
  found = open_folder(folder)
  assert found.some_prompts() == {'caf\udce9.npy': 'one', 'cafe\u0301.npy': 'two'}
  digest = found.digest()
  (folder / 'caf\udce9.npy').rename(folder / 'caf\udcea.npy')
  assert digest != open_folder(folder).digest()


def test_batches_keep_order_and_the_rest():
  found = list(batched([(str(i), np.full(2, i)) for i in range(5)], 2))
  assert [b[:, 0].tolist() for b in found] == [[0, 1], [2, 3], [4]]


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


def test_no_folder_and_no_video(tmp_path):
  with pytest.raises(ValueError, match='There is no folder'):
    open_folder(tmp_path / 'none')
  with pytest.raises(ValueError, match=r'has no video; allowed are \.3g2, \.3gp, '):
    open_folder(tmp_path)
