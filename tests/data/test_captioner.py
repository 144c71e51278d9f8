"""A user's program captions clips, in batches, once each, and its version is recorded."""

import json
import shlex
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data import captioner, processes, progress
from data.captions import Line
from tests.data.test_scenes import panning
from tests.data.videos import built, encoded

# It writes what it gets to a log, and says the size of each clip; it knows no clip of 'c.mkv'.
PROGRAM = """
import json, os, sys
for number, line in enumerate(sys.stdin):
  clips = json.loads(line)['clips']
  with open({log!r}, 'a') as log:
    log.write(line)
  if {ends!r} == number:
    sys.exit(3)
  captions = [
    None if c['caption'] == 'c' else f"{{os.path.getsize(c['path'])}} bytes, {{c['caption']}}"
    for c in clips
  ]
  print(json.dumps({{'version': 'sizes 1', 'captions': captions}}), flush=True)
"""
OPTIONS = dict(fps=10.0, seconds=1.0, min_frames=10, caption_batch=2)


@pytest.fixture
def videos(tmp_path, monkeypatch):
  folder = tmp_path / 'videos'
  folder.mkdir()
  for i, name in enumerate('abc'):
    (folder / f'{name}.mkv').write_bytes(encoded(panning(i, 20), np.arange(20) * 100))
  (folder / 'whole.mkv').write_bytes(encoded(panning(3, 10), np.arange(10) * 100))
  monkeypatch.setattr(
    processes, 'results', lambda call, jobs, *_: ((job, call(job)) for job in jobs)
  )
  return folder


def program(tmp_path, ends=None):
  path = tmp_path / 'program.py'
  path.write_text(PROGRAM.format(log=str(tmp_path / 'log'), ends=ends))
  return shlex.join([sys.executable, str(path)])


LINES = {f'{name}.mkv': Line(name, None) for name in 'abc'} | {'whole.mkv': Line(None, None)}


def records(folder):
  source = tfds.builder_from_directory(folder).as_data_source(split='train')
  return [(r['file'].decode(), r['caption'].decode(), r['captioner'].decode()) for r in source]


def test_captions_are_those_of_the_program_with_its_version(videos, tmp_path):
  out = tmp_path / 'out'
  report = built(videos, LINES, out, caption_command=program(tmp_path), **OPTIONS)
  source = tfds.builder_from_directory(out).as_data_source(split='train')
  expected = [
    (file, f'{len(record["video"])} bytes, {LINES[file].caption}', 'sizes 1')
    if file != 'c.mkv' else (file, 'c', '')
    for record in source for file in [record['file'].decode()]
  ]  # fmt: skip
  assert [file[0][0] for file in expected] == ['a', 'a', 'b', 'b', 'c', 'c', 'w']
  assert records(out) == expected
  assert report['captioners'] == {'': 2, 'sizes 1': 5}
  batches = [json.loads(line)['clips'] for line in (tmp_path / 'log').read_text().splitlines()]
  assert [len(batch) for batch in batches] == [2, 2, 2, 1]
  assert batches[3] == [{'path': str(videos / 'whole.mkv'), 'caption': None}]
  assert batches[0][0]['path'].startswith(f'{progress.folder_for(out)}/')


def test_a_build_that_ended_asks_only_for_what_it_lacks(videos, tmp_path):
  command = program(tmp_path, ends=2)
  out = tmp_path / 'out'
  with pytest.raises(ValueError, match=r'end of its output, and exit status 3, for 2 clips; al'):
    built(videos, LINES, out, caption_command=command, **OPTIONS)
  assert not out.exists()
  program(tmp_path)
  (tmp_path / 'log').unlink()
  built(videos, LINES, out, caption_command=command, **OPTIONS)
  assert len((tmp_path / 'log').read_text().splitlines()) == 2
  built(videos, LINES, tmp_path / 'again', caption_command=command, **OPTIONS)
  assert records(out) == records(tmp_path / 'again')


def test_a_clip_without_any_caption_is_left_out(videos, tmp_path):
  lines = LINES | {'c.mkv': Line(None, None)}
  (tmp_path / 'program.py').write_text(
    'import sys\nfor line in sys.stdin: print(\'{"version": "0", "captions": [null]}\', flush=True)'
  )
  command = shlex.join([sys.executable, str(tmp_path / 'program.py')])
  report = built(
    videos, lines, tmp_path / 'out', caption_command=command, **OPTIONS | {'caption_batch': 1}
  )
  assert report['reasons'] == {'no caption': 3}
  assert [caption for _, caption, _ in records(tmp_path / 'out')] == ['a', 'a', 'b', 'b']


@pytest.mark.parametrize(
  ('reply', 'reason'),
  [
    ('nonsense', "got 'nonsense"),
    ('{"version": "1"}', r'allowed is one line such as .*\(.captions.\)\.$'),
    ('{"version": "1", "captions": []}', 'another form'),
    ('{"version": 1, "captions": ["a"]}', 'another form'),
    ('{"version": "1", "captions": [3]}', '3 is no text'),
    ('{"version": "1", "captions": ["\\ud83d"]}', 'which is not a character'),
    ('[]', 'list indices must be'),
  ],
)
def test_another_reply_is_one_line(tmp_path, reply, reason):
  (tmp_path / 'program.py').write_text(f'input()\nprint({reply!r}, flush=True)\ninput()')
  command = shlex.join([sys.executable, str(tmp_path / 'program.py')])
  clip = captioner.Asked(None, tmp_path / 'a.mp4', None)
  with captioner.started(command) as captions_of:
    with pytest.raises(ValueError, match=reason) as raised:
      captions_of([clip])
    assert '\n' not in str(raised.value)
    with pytest.raises(ValueError, match='got the end of its output'):
      captions_of([clip])
    (tmp_path / 'program.py').unlink()


def test_a_command_that_is_no_program_and_a_bad_end_are_refused(tmp_path):
  for command in ('no_such_program', '"', ' '):
    with pytest.raises(ValueError, match='Got --caption_command='):
      captioner.require(command)
  for command in ('sh -e none.sh', f'{sys.executable} none.py --model=x'):
    with pytest.raises(ValueError, match=r'^Got --caption_command=.*, but there is no file none\.'):
      captioner.require(command)
  captioner.require("sh -c 'exec none.sh'")  # what it runs is not known
  (script := tmp_path / 'script').write_bytes(b'neither a program nor a script')
  script.chmod(0o755)
  with pytest.raises(ValueError, match=r'script cannot be started: Exec format error\.$'):
    captioner.started(str(script)).__enter__()
  command = shlex.join([sys.executable, '-c', 'import sys; sys.stdin.read(); sys.exit(3)'])
  with pytest.raises(ValueError, match='ended with status 3'), captioner.started(command):
    pass
