import json
import pathlib
import subprocess
import sys

import pytest
from PIL import Image

from configs import t2v_masked
from data.synthetic import prompt
from tests.conftest import SMALL
from tests.scripts import save, save_style

APPLICATIONS = ('image_to_video', 'inpainting', 'cinemagraph', 'edit')
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


def test_applications_are_scored_on_held_out_clips(tmp_path):
  config = t2v_masked.get_config('tiny')
  config.data.update(size=32, frames=80)
  config.model.update(SMALL)
  config.sampling.steps = 1
  masked = save(tmp_path / 'masked', config)
  (tmp_path / 'styles').mkdir()
  save_style(tmp_path / 'styles/neon.npz', masked, 'in neon style')
  Image.new('RGB', (8, 8), 'purple').save(tmp_path / 'styles/neon.png')
  options = (
    '--styles=styles',
    f'--workdir={masked}',
    f'--masked_workdir={masked}',
    '--clips=1',
    '--output=score.json',
  )
  done = run(tmp_path, 'applications', *options)
  assert done.returncode == 0, done.stderr
  report = json.loads((tmp_path / 'score.json').read_text())
  assert list(report['score']) == [*APPLICATIONS, 'style neon']
  assert report['score']['style neon'].keys() == {'look', 'motion'}
  assert report['score']['edit'].keys() == {'path', 'colour'}
  assert [row['application'] for row in report['clips']] == list(report['score'])
  for row in report['clips']:
    for key, share in report['score'][row['application']].items():
      assert share == row[key]
  assert report['protocol']['inpainting']['clips'] == 1


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['fvd'], "Unknown verb: 'fvd'.  Allowed: applications, shapes."),
    (['--output=score.txt'], '--output=score.txt is not allowed: it is a .json file.'),
    (['--output=no/score.json'], '--output=no/score.json: there is no folder no.'),
    (['applications', '--styles=none'], '--styles=none: there is no such folder.'),
    (['--workdir=nowhere'], 'nowhere is not a workdir: it has no config.json'),
  ],
)
def test_bad_input_is_one_line(tmp_path, argv, message):
  done = run(tmp_path, *argv)
  assert done.returncode == 2
  assert ' '.join(message.split()) in done.stderr
  assert done.stderr.count('\n') == 1
  assert list(tmp_path.iterdir()) == []
