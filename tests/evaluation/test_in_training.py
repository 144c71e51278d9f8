import json
import math

import jax
import pytest

from configs import ssr, t2v
from core.sharding import make_mesh, over_batch
from data.synthetic import SCENES
from evaluation.in_training import make_scoring
from evaluation.protocol import flatten
from pipelines.model import Model
from pipelines.stages import open_stage
from tests.conftest import PLAIN
from tests.scripts import save
from training import checkpoint


@pytest.fixture
def config():
  config = t2v.get_config('tiny')
  config.data.update(size=16, frames=16)
  config.model.update(PLAIN)
  config.sampling.steps = 1
  config.scores.update(metrics=('motion', 'shapes'), videos=3)
  return config


def scoring(config, workdir, settings):
  """Of two videos at once, on one device."""
  mesh = make_mesh((('data', 1),), jax.devices()[:1])
  model = Model(config, open_stage(config), 2, over_batch(mesh))
  return make_scoring(model, workdir, **settings)


def test_scores_are_of_videos_by_these_parameters(tmp_path, config):
  workdir = save(tmp_path / 'run', config)
  _, params, _ = checkpoint.load(workdir)
  score = scoring(config, workdir, config.scores)
  result = score(params, 7)
  folder = workdir / 'evaluation' / 'step_00000007'
  lines = [json.loads(line) for line in (folder / 'videos/index.jsonl').read_text().splitlines()]
  first, second = config.sample_prompts
  assert [line['prompt'] for line in lines] == [first, second, first]
  for metric in ('motion', 'shapes'):
    kept = json.loads((folder / f'{metric}.json').read_text())
    assert kept['of'] == 'step 7'
    assert kept['protocol']['clips'] == 3
    for name, value in flatten(kept['score']).items():
      got = result[f'{metric}/{name}']
      assert got == value or (value is None and math.isnan(got))
  # The same again, whatever was there.
  assert score(params, 7) == result


def test_prompts_are_those_of_a_file(tmp_path, config):
  (tmp_path / 'list.txt').write_text(SCENES[0].caption)
  list_of_one = {'prompts': str(tmp_path / 'list.txt'), 'videos': 2, 'metrics': ('shapes',)}
  settings = config.scores.to_dict() | list_of_one
  workdir = save(tmp_path / 'run', config)
  _, params, _ = checkpoint.load(workdir)
  scoring(config, workdir, settings)(params, 1)
  index = workdir / 'evaluation/step_00000001/videos/index.jsonl'
  assert index.read_text().count(SCENES[0].caption) == 2


def test_no_metrics_are_no_videos(tmp_path, config):
  config.scores.metrics = ()
  score = scoring(config, tmp_path, config.scores)
  assert score({}, 1) == {}
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'metrics': ('psnr',)}, "Unknown metric: 'psnr'.  Allowed: clip_score, fvd,"),
    ({'metrics': ('fvd',)}, 'fvd needs reference and i3d'),
    ({'videos': 0}, "Got scores of 0 videos in the stage 't2v'; allowed are 1 or more"),
    ({'prompts': 'none.txt'}, 'Cannot read the prompts of none'),
    ({'metrics': ('fvd',), 'reference': 'no', 'i3d': 'random:0'}, 'There is no folder no'),
    ({'metrics': ('inception_score',), 'c3d': 'no.npz'}, 'There is no file no'),
    (
      {'metrics': ('inception_score',), 'c3d': 'random:0', 'frames': 20},
      'inception_score takes clips of 20 frames; videos here have 16',
    ),
    (
      {'metrics': ('inception_score',), 'c3d': 'random:0', 'fps': 8.0},
      'inception_score takes clips of 16 frames; videos here have 8',
    ),
    (
      {'metrics': ('inception_score',), 'c3d': 'random:0', 'splits': 4},
      'Got 4 splits of 3 clips; allowed are 1 to that many',
    ),
    ({'windows': 'frist'}, "Got windows='frist'; allowed are first, all"),
  ],
)
def test_mistakes_come_first(tmp_path, config, settings, message):
  config.scores.update(settings)
  with pytest.raises(ValueError, match=message):
    scoring(config, tmp_path, config.scores)
  assert list(tmp_path.iterdir()) == []


def test_super_resolution_has_no_prompts_to_score(tmp_path):
  config = ssr.get_config('tiny')
  config.scores.metrics = ('motion',)
  with pytest.raises(ValueError, match='1 or more in a stage that makes videos of texts'):
    scoring(config, tmp_path, config.scores)
