import json
import pathlib
import subprocess
import sys

import pytest

from data.synthetic import prompt

ROOT = pathlib.Path(__file__).parents[1]
WORKDIR = f'--workdir={ROOT}/checkpoints/demo/t2v'


def run(folder, *argv):
  argv = [sys.executable, str(ROOT / 'evaluate.py'), *argv]
  return subprocess.run(argv, cwd=folder, capture_output=True, text=True)


def test_shapes_judges_a_video_of_every_seed(tmp_path):
  options = ('--prompts=2', '--batch=2', '--steps=2', '--output=score.json')
  done = run(tmp_path, 'shapes', WORKDIR, *options)
  assert done.returncode == 0, done.stderr
  report = json.loads((tmp_path / 'score.json').read_text())
  assert [v['caption'] for v in report['videos']] == [prompt(seed).caption for seed in (0, 1)]
  for fact in ('colour', 'shape', 'motion', 'background'):
    right = [asked == seen for asked, seen in (v[fact] for v in report['videos'])]
    assert report['score'][fact] == sum(right) / 2
    assert [v[fact][0] for v in report['videos']] == [getattr(prompt(s), fact) for s in (0, 1)]
  assert report['protocol']['steps'] == 2
  assert report['protocol']['seeds'] == 2


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['fvd'], "Unknown verb: 'fvd'.  Allowed: shapes."),
    (['--output=score.txt'], '--output=score.txt is not allowed: it is a .json file.'),
    (['--output=no/score.json'], '--output=no/score.json: there is no folder no.'),
    (['--workdir=nowhere'], 'nowhere is not a workdir: it has no config.json'),
  ],
)
def test_bad_input_is_one_line(tmp_path, argv, message):
  done = run(tmp_path, *argv)
  assert done.returncode == 2
  assert ' '.join(message.split()) in done.stderr
  assert done.stderr.count('\n') == 1
  assert list(tmp_path.iterdir()) == []
