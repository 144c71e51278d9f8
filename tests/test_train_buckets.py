"""Training in buckets, on a mixture of sources."""

import math

import pytest

from benchmarks import runs
from configs import ssr, style, t2i, t2v, t2v_masked
from core.sharding import make_mesh
from pipelines.stages import open_stage
from tests.scripts import script
from tests.tiny_run import SMALLEST, changed
from training.phases import Clock
from training.plan import make_plan

BUCKETS = ((4, 8, 8), (1, 8, 12))


def configured(stage=t2v, **changes):
  config = changed(stage.get_config('tiny'))
  few = {'steps': 2, 'log_every': 1, 'evaluate_every': 0, 'save_every': 0, 'evaluate_batch': 8}
  few |= {'loader.batch': 8, 'scores.metrics': (), 'trainable': ('.*',)}
  config.update_from_flattened_dict(SMALLEST | few | {'data.buckets': BUCKETS} | changes)
  return config


def test_a_run_takes_turns_between_buckets(monkeypatch, tmp_path, capsys):
  """Of the sources of a mixture, on wide and on tall images."""
  buckets = {'data.buckets': ((1, 8, 16), (1, 8, 8)), 'data.frames': 1}
  mixture = {'data.mixture': (('synthetic', 3.0), ('synthetic', 1.0))}
  with script('train') as train:
    monkeypatch.setattr(train, 'make_write_samples', lambda *args: lambda params, step: None)
    train.train(configured(t2i, **buckets, **mixture), tmp_path / 'run', Clock())
  lines = runs.lines(tmp_path / 'run')
  losses = runs.losses(tmp_path / 'run')
  assert len({*losses.values()}) == len(losses) == 2
  *_, last = (line for line in lines if 'evaluation_loss' in line)
  assert math.isfinite(last['evaluation_loss'])
  line = next(line for line in lines if 'frames_per_s' in line)
  assert line['frames_per_s'] / line['steps_per_s'] == pytest.approx(8)
  assert 'are 1 x 8 x 16, in 50.0% of the batches' in capsys.readouterr().err


def test_examples_have_the_shapes_of_the_buckets():
  plan = make_plan(configured(t2v_masked), make_mesh((('data', -1),)), open_stage)
  for example, bucket in zip(plan.examples, BUCKETS, strict=True):
    assert example['video'].shape == (*bucket, 3)
    assert example['mask'].shape == bucket
  assert plan.largest is plan.examples[0]
  assert plan.stage.required_condition.keys() == {'text', 'text_mask'}


@pytest.mark.parametrize(
  ('buckets', 'message'),
  [
    (((5, 8, 8), (4, 8, 8)), '5 frames do not divide by the temporal factor 2'),
    (((4, 8, 8), (4, 8, 9)), 'of which the nearest are 8x8, 8x10.'),
    ((4, 8, 8), 'Got data.buckets=(4, 8, 8); allowed are different shapes'),
  ],
)
def test_a_shape_that_the_network_does_not_allow_is_refused(buckets, message):
  config = changed(t2v.get_config('tiny'))  # both factors are 2
  config.update_from_flattened_dict({'data.buckets': buckets, 'loader.batch': 8})
  with pytest.raises(ValueError, match=r'.+') as error:
    make_plan(config, make_mesh((('data', -1),)), open_stage)
  assert message in str(error.value)


def test_an_image_model_has_buckets_of_one_frame():
  with pytest.raises(ValueError, match=r'clips of 4 frames \(data\.buckets=.* for an image model'):
    make_plan(configured(t2i, **{'data.frames': 1}), make_mesh((('data', -1),)), open_stage)


@pytest.mark.parametrize('stage', [ssr, style])
def test_stages_of_one_shape_have_no_buckets(stage):
  with pytest.raises(ValueError, match=r'in the stage \w+, which allows none; the stages t2i, t2v'):
    open_stage(configured(stage))
