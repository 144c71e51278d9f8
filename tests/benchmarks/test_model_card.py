"""The model card of a run, from its config, its metrics and its checkpoint."""

import json

from benchmarks import model_card
from configs import t2i
from core.params import count
from pipelines.stages import open_stage
from tests.conftest import SMALL
from tests.scripts import save
from training.plan import parameter_shapes


def test_a_card_says_what_the_run_has_recorded(tmp_path):
  config = t2i.get_config('tiny')
  config.model.update(SMALL)
  config.update(steps=3, init_from='elsewhere/parent')
  workdir = save(tmp_path / 'shapes', config)
  losses = [(step, 0.1 / step) for step in (1, 2, 3)]
  metrics = [{'step': 0, 'started': 1.0}]
  metrics += [{'step': step, 'loss': loss} for step, loss in losses]
  metrics += [{'step': step, 'evaluation_loss': 2 * loss} for step, loss in losses]
  metrics += [{'step': 3, 'seconds/step': 1800.0}]
  (workdir / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, metrics)) + '\n')
  score = {'metric': 'shapes', 'score': {'all': 0.75}, 'protocol': {'clips': 48}}
  text = model_card.card(workdir, 'configs/t2i.py:tiny', [score], 'abc123', '1 core', 'curves.png')
  cells = [line.strip('| ').split(' | ') for line in text.splitlines() if line.startswith('| ')]
  rows = dict(pair for pair in cells if len(pair) == 2)
  parameters = count(parameter_shapes(open_stage(config)))
  assert rows['parameters'] == f'{parameters:,}, of which {parameters:,} were trained'
  assert rows['command'].endswith('--workdir=runs/shapes --config.init_from=runs/parent`')
  assert rows['steps'] == f'3 of 3, with {config.loader.batch} clips in each'
  assert rows['time'] == '0.50 hours of steps'
  assert rows['loss'] == '0.0667 (`evaluation_loss`)'
  assert rows['shapes'] == 'all 0.75; 48 clips'
  assert (rows['commit'], rows['machine']) == ('abc123', '1 core')
  curves = model_card.losses(workdir)
  assert [step for step, _ in curves['held out']] == [1, 2, 3]
  assert curves['training'][0] == (1, -1.0)
