import hashlib
import json

import numpy as np
import pytest

from core import video
from data import manifest
from evaluation.clips import Reading, clips
from evaluation.folder import Folder, open_folder
from tests.evaluation.conftest import numbered, refuse


def test_videos_are_found_in_order(folder):
  assert open_folder(folder).files == ('a.npy', 'b.npy', 'deep/c.npy')


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
  digest = lambda i, file: {
    'file': file,
    'prompt': 'same',
    'number': str(i),
    'model': 'm',
    'at': i // 2,
  }
  lines = [digest(i, file) for i, file in enumerate([*files, 'gone.mp4'])]
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
    assert manifest.read(tmp_path / name).lines['a.npy'].caption == prompt


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
  videos = open_folder(folder).files
  assert videos == ('a.npy', 'again/e.npy', 'b.npy', 'deep/c.npy')
  lines = [{'file': 'part/e.npy', 'caption': 'one'}, {'file': 'deep/round/a.npy', 'caption': 'two'}]
  (folder / 'captions.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  assert open_folder(folder).known_prompts() == {'again/e.npy': 'one', 'a.npy': 'two'}
  (folder / 'captions.jsonl').write_text(
    '\n'.join(map(json.dumps, [{'file': 'a.npy', 'caption': 'own'}, *lines]))
  )
  assert open_folder(folder).known_prompts() == {'again/e.npy': 'one', 'a.npy': 'own'}


def test_names_that_are_not_utf_8_or_of_another_form(folder):
  sums = [(n, hashlib.sha256((folder / n).read_bytes()).hexdigest()) for n in ('a.npy', 'b.npy')]
  listed = ''.join(f'{name}\0{digest}\n' for name, digest in sums)
  total = Folder(folder, ('a.npy', 'b.npy')).digest()
  assert total == hashlib.sha256(listed.encode()).hexdigest()
  for name in ('caf\udce9.npy', 'cafe\u0301.npy'):
    np.save(folder / name, numbered(2))
  (folder / 'captions.jsonl').write_text(
    '{"file": "caf\\udce9.npy", "caption": "one"}\n{"file": "caf\\u00e9.npy", "caption": "two"}'
  )
  videos = open_folder(folder)
  assert videos.known_prompts() == {'caf\udce9.npy': 'one', 'cafe\u0301.npy': 'two'}
  digest = videos.digest()
  (folder / 'caf\udce9.npy').rename(folder / 'caf\udcea.npy')
  assert digest != open_folder(folder).digest()


def test_no_folder_and_no_video(tmp_path):
  with pytest.raises(ValueError, match='There is no folder'):
    open_folder(tmp_path / 'none')
  with pytest.raises(ValueError, match=r'has no video; allowed are \.3g2, \.3gp, '):
    open_folder(tmp_path)
