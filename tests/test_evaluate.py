import dataclasses
import json
import pathlib
import re

import flax.linen as nn
import numpy as np
import pytest
from PIL import Image

from configs import t2v, t2v_masked
from core import video
from data.synthetic import prompt
from evaluation import scores
from evaluation.features import networks
from evaluation.features.c3d import C3D
from tests.conftest import PLAIN, SMALL
from tests.raters import two_systems
from tests.scripts import call, save, save_style, script

APPLICATIONS = ('image_to_video', 'inpainting', 'cinemagraph', 'edit')
ROOT = pathlib.Path(__file__).parents[1]


class Logits(nn.Module):
  """A linear network of the mean colour."""

  @nn.compact
  def __call__(self, video):
    return nn.Dense(400, name='logits')(video.mean((1, 2, 3)))


@pytest.fixture(scope='module')
def evaluate():
  with script('evaluate') as module:
    yield module


@pytest.fixture
def run(evaluate, tmp_path, monkeypatch):
  """Calls the script in the test's folder: exit status, stdout and stderr."""
  monkeypatch.chdir(tmp_path)
  return lambda *argv: call(evaluate, *argv)


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """A workdir of a model that compiles quickly; its videos are noise."""
  config = t2v.get_config('tiny')
  config.data.update(size=16, frames=16)
  config.model.update(PLAIN)
  config.sampling.steps = 1
  return save(tmp_path_factory.mktemp('small') / 't2v', config)


@pytest.fixture
def small_networks(monkeypatch):
  """Stand-ins for I3D and C3D, whose size proves nothing here."""
  specs = {name: networks.NETWORKS[name] for name in ('c3d', 'i3d')}
  model = C3D(channels=(2, 2, 2, 2, 2), hidden=4)
  monkeypatch.setitem(networks.NETWORKS, 'c3d', dataclasses.replace(specs['c3d'], model=model))
  monkeypatch.setitem(networks.NETWORKS, 'i3d', dataclasses.replace(specs['i3d'], model=Logits()))
  yield
  scores._open_features.cache_clear()


def test_shapes_judges_a_video_of_every_seed(run, tmp_path, small):
  options = ('--count=2', '--batch=2', '--output=score.json')
  status, _, err = run('shapes', f'--workdir={small}', *options)
  assert status == 0, err
  report = json.loads((tmp_path / 'score.json').read_text())
  assert [v['caption'] for v in report['videos']] == [prompt(seed).caption for seed in (0, 1)]
  for fact in ('colour', 'shape', 'motion', 'background'):
    right = [asked == seen for asked, seen in (v[fact] for v in report['videos'])]
    assert report['score'][fact] == sum(right) / 2
    assert [v[fact][0] for v in report['videos']] == [getattr(prompt(s), fact) for s in (0, 1)]
  assert report['protocol']['clips'] == 2
  assert not (tmp_path / 'samples').exists()


def test_applications_are_scored_on_held_out_clips(run, tmp_path):
  config = t2v_masked.get_config('tiny')
  config.data.update(size=16, frames=16)
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
  status, _, err = run('applications', *options)
  assert status == 0, err
  report = json.loads((tmp_path / 'score.json').read_text())
  assert sorted(report['score']) == sorted([*APPLICATIONS, 'style neon'])
  assert report['score']['style neon'].keys() == {'look', 'motion'}
  assert report['score']['edit'].keys() == {'path', 'colour'}
  assert [row['application'] for row in report['clips']] == [*APPLICATIONS, 'style neon']
  for row in report['clips']:
    for key, share in report['score'][row['application']].items():
      assert share == row[key]
  assert report['protocol']['inpainting']['clips'] == 1


def test_ucf101_says_its_plan_and_makes_nothing(run, tmp_path):
  status, out, err = run('ucf101', '--dry_run')
  assert status == 0, err
  assert re.search(r'Archery +111 +145  archery\n', out)
  assert out.splitlines()[-1].split() == ['all', '10,235', '13,320']
  assert list(tmp_path.iterdir()) == []


def test_ucf101_resumes_to_the_same_score(run, tmp_path, small, small_networks):
  options = ('--count=5', '--batch=2', '--c3d=random:0', '--splits=1', f'--workdir={small}')
  argv = ('ucf101', *options, '--samples=made', '--output=score.json')
  status, out, err = run(*argv)
  assert status == 0, err
  assert '| Lumiere (Google) | 332.49 | 37.54 |' in out
  assert re.search(r'inception_score of 5 clips in t2v step 3\ninception_score is by random', out)
  before = {path.name: path.read_bytes() for path in (tmp_path / 'made').iterdir()}
  assert len(before) == 6
  score = (tmp_path / 'score.json').read_text()
  result = json.loads(score)
  assert result['score'].keys() == {'inception_score'}
  assert result['protocol']['inception_score']['clips'] == 5
  for gone in sorted(before)[1:4:2]:
    (tmp_path / 'made' / gone).unlink()
  (tmp_path / 'score.json').unlink()
  assert run(*argv)[0] == 0
  assert {path.name: path.read_bytes() for path in (tmp_path / 'made').iterdir()} == before
  assert (tmp_path / 'score.json').read_text() == score


def test_hosts_make_their_shares_of_a_list(run, tmp_path, small):
  (tmp_path / 'list.txt').write_text('a cat\na dog\na bird\n')
  argv = ('prompts', '--prompts=list.txt', '--samples=made', f'--workdir={small}', '--hosts=2')
  (_, first, _), (_, second, _) = (run(*argv, f'--host={i}') for i in range(2))
  assert '1 of 3 videos are not there yet: other hosts make them.' in first
  assert '3 videos: made' in second
  index = [json.loads(line) for line in (tmp_path / 'made/index.jsonl').read_text().splitlines()]
  assert [line['prompt'] for line in index] == ['a cat', 'a dog', 'a bird']


def test_all_of_what_is_made_is_scored_and_says_what_made_it(run, tmp_path, small):
  (tmp_path / 'list.txt').write_text('a cat\na dog\n')
  argv = ('motion', '--prompts=list.txt', f'--workdir={small}', '--per_prompt=2', '--count=1')
  status, _, err = run(*argv, '--guidance=2', '--output=score.json')
  assert status == 0, err
  result = json.loads((tmp_path / 'score.json').read_text())
  assert result['of'] == result['made_by']['model'] == 't2v step 3'
  assert len(result['made_by']['weights']) == 12
  protocol = result['protocol']
  assert (protocol['clips'], protocol['drawn_by_seed']) == (2, None)
  assert protocol['sampling'].items() >= {'guidance': '2.0', 'seed': '0', 'steps': '1'}.items()


@pytest.fixture
def videos(tmp_path):
  """Three videos, and a folder of others."""
  for i, folder in enumerate(('v', 'v', 'v', 'real', 'real', 'real')):
    (tmp_path / folder).mkdir(exist_ok=True)
    clip = np.random.default_rng(i).integers(0, 256, (16, 24, 32, 3), dtype=np.uint8)
    video.write(tmp_path / folder / f'{i % 3}.mp4', clip)


def test_fvd_is_of_two_folders(run, tmp_path, videos, small_networks):
  (tmp_path / 'v' / 'broken.mp4').write_bytes(b'none')
  argv = ('fvd', '--videos=v', '--reference=real', '--i3d=random:0', '--batch=2', '--frames=9')
  status, out, err = run(*argv, '--output=score.json')
  assert status == 0, err
  assert 'skipped broken.mp4: ' in err
  assert re.search(r'fvd of 3 clips in v\nfvd is by random weights', out)
  result = json.loads((tmp_path / 'score.json').read_text())
  assert result['score']['fvd'] > 0
  assert result['protocol']['reading']['frames'] == 9
  assert result['protocol']['reference_clips'] == 3


@pytest.mark.parametrize('line', ['--row=3', '--row=0.5', '--column=31', '--column=0.0'])
def test_slices_are_of_a_row_or_a_column(run, tmp_path, videos, line):
  status, _, err = run('xt_slice', '--videos=v', '--output=slices.png', '--count=2', line)
  assert status == 0, err
  picture = Image.open(tmp_path / 'slices.png')
  assert picture.width == 640 + 160 + 3 * 16


def test_a_row_that_is_no_number_is_a_mistake(run, videos):
  for row in ('\u00b2', '.', '-1', 'x'):
    status, _, err = run('xt_slice', '--videos=v', '--output=slices.png', f'--row={row}')
    assert status == 2
    assert 'allowed is a number, as 64, or a share with a point, as 0.5' in err


def test_motion_is_printed_for_each_video(run, videos):
  status, out, err = run('motion', '--videos=v')
  assert status == 0, err
  assert [line.split('  ')[0] for line in out.splitlines()[:3]] == [
    f'file {i}.mp4' for i in range(3)
  ]


def test_a_run_has_a_report(run, tmp_path, small):
  assert run('report', f'--workdir={small}', '--output=page.html')[0] == 0
  assert '<h1>t2v</h1>' in (tmp_path / 'page.html').read_text()


def test_a_study_is_made_and_its_answers_are_analysed(run, tmp_path):
  two_systems(tmp_path)
  argv = ('user_study', '--ours=ours', '--theirs=theirs', '--study=study', '--pairs=3')
  status, out, err = run(*argv, '--size=32', '--fps=12', '--real=ours')
  assert status == 0, err
  assert 'for raters: study/page/index.html' in out
  key = json.loads((tmp_path / 'study/key.json').read_text())
  assert (key['size'], key['fps']) == (32, 12)
  answers = [
    {'pair': id, 'question': question, 'left': 'a', 'choice': item['known'], 'ms': 1000}
    for id, item in key['items'].items()
    for question in item['questions']
  ]
  answers_file = {'version': key['version'], 'study': key['study'], 'rater': 'r', 'finished': 'now'}
  (tmp_path / 'answers').mkdir()
  (tmp_path / 'answers/r.json').write_text(json.dumps(answers_file | {'answers': answers}))
  argv = ('user_study', '--analyse=answers', '--key=study/key.json', '--output=score.json')
  status, _, err = run(*argv)
  assert status == 0, err
  result = json.loads((tmp_path / 'score.json').read_text())
  assert result['score']['quality']['ours'] == result['score']['text']['ours'] == 1


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['sing'], "Unknown verb: 'sing'.  Allowed: applications, clip_score, fvd,"),
    (['fvd'], 'fvd needs reference and i3d.'),
    (['motion'], 'Neither --videos=DIR nor --prompts=FILE says'),
    (['fvd', '--c3d=none'], 'fvd does not take --c3d; allowed are --reference, '),
    (['motion', '--videos=none'], 'There is no folder none.'),
    (['motion', '--videos=.'], '. has no video; allowed are .3g2, .3gp,'),
    (['prompts', '--prompts=none.txt'], 'prompts needs --samples=DIR.'),
    (['prompts', '--prompts=none.txt', '--samples=s'], 'Cannot read the prompts of none.txt'),
    (['ucf101'], 'ucf101 needs --i3d=FILE and --reference=DIR, --c3d=FILE, or all of these.'),
    (['ucf101', '--c3d=random:0'], 'ucf101 needs --samples=DIR, or the --videos that were made.'),
    (['ucf101', '--dry_run', '--class_prompts=none'], 'Cannot read the prompts of none'),
    (['--output=score.txt'], '--output=score.txt is not allowed: it is a .json file.'),
    (['--output=no/score.json'], '--output=no/score.json: there is no folder no.'),
    (['applications', '--styles=none'], '--styles=none: there is no such folder.'),
    ([f'--workdir={ROOT}/checkpoints/demo/ssr'], 'upscales videos; allowed is a model that'),
    (
      ['user_study', '--ours=.', '--theirs=.', '--study=s', '--questions=taste'],
      '. has no video; allowed are',
    ),
    (['--hosts=2'], '--hosts needs --samples=DIR, a folder that all of them see.'),
    (['--seed=4294967296'], '--seed'),
    (['fvd', '--videos=.', '--reference=none', '--i3d=random:0'], 'There is no folder none.'),
    (['inception_score', '--videos=.', '--c3d=none.npz'], 'There is no file none.npz.'),
    (['--workdir=nowhere'], 'nowhere is not a workdir: it has no config.json'),
  ],
)
def test_bad_input_is_one_line(run, tmp_path, argv, message):
  status, _, err = run(*argv)
  assert status == 2
  assert ' '.join(message.split()) in err
  assert err.count('\n') == 1
  assert list(tmp_path.iterdir()) == []


def test_every_metric_has_a_verb(evaluate):
  assert scores.METRICS.keys() <= evaluate.VERBS.keys()
