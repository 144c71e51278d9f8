"""What a pipeline refuses: one line, before anything is compiled or loaded."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import t2v, t2v_masked
from core.condition import Condition
from diffusion.sampling import InitialVideo
from pipelines import Pipeline
from pipelines.checks import require_condition
from pipelines.model import Model
from tests.conftest import PLAIN
from tests.scripts import save

SIDE, FRAMES = 8, 4


def small(module):
  config = module.get_config('tiny')
  config.data.update(size=SIDE, frames=FRAMES)
  config.model.update(PLAIN)
  config.sampling.update(steps=1)
  return config


@pytest.fixture(scope='module')
def workdirs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  for name, module in (('t2v', t2v), ('masked', t2v_masked)):
    save(folder / name, small(module))
  return folder


@pytest.fixture
def pipeline(workdirs, monkeypatch):
  monkeypatch.setattr(Model, 'compile', lambda *args: pytest.fail('It was compiled.'))
  return Pipeline.load(workdirs / 'masked')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'batch': 0}, 'Got a batch of 0 videos; allowed are 1 or more.'),
    ({'frames': 0}, '0 frames do not divide'),
    ({'frames': -4}, 'the nearest are 1'),
    ({'steps': 2.5}, 'Got steps=2.5; allowed is a value of type int.'),
    ({'steps': '2'}, "Got steps='2'; allowed is a value of type int."),
    ({'steps': 0}, 'Got sampling.steps=0; allowed is 1 or more.'),
    ({'guidance': -1.0}, 'Got sampling.guidance=-1.0; allowed is 0 or more.'),
    ({'stepz': 2}, 'Got the sampling options stepz; allowed are guidance, sampler,'),
    ({'window': 3}, 'Got the sampling options window; allowed are'),
  ],
)
def test_options_of_load(workdirs, options, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    Pipeline.load(workdirs / 't2v', **options)


def test_guidance_may_be_a_whole_number_and_parameters_are_not_printed(workdirs):
  pipeline = Pipeline.load(workdirs / 't2v', guidance=2)
  assert pipeline.base.config.sampling.guidance == 2
  assert len(repr(pipeline)) < 10_000


MASK = np.zeros((1, FRAMES, SIDE, SIDE, 1), np.float32)
VIDEO = np.zeros((1, FRAMES, SIDE, SIDE, 3), np.float32)


@pytest.mark.parametrize(
  ('prompts', 'inputs', 'message'),
  [
    ('red', {}, "Got the string 'red' as prompts; allowed is a list of strings."),
    ([' '], {}, "Got the prompt ' '; allowed is any text that is not blank."),
    (['a'], {'seed': -1}, 'Got the seed -1; allowed is a whole number from 0 to 4294967295.'),
    (['a'], {'seed': 2**40}, 'Got the seed 1099511627776'),
    (['a'], {'numbers': [0, 1]}, 'Got 2 numbers for 1 prompts; allowed is one for each.'),
    (['a'], {'condition': Condition(mask=MASK)}, 'Got one of mask and masked_video'),
    (
      ['a'],
      {'condition': Condition(mask=MASK[:, :2], masked_video=VIDEO)},
      'Got mask of shape (1, 2, 8, 8, 1); allowed is (1, 4, 8, 8, 1).',
    ),
    (['a'], {'condition': Condition(text=VIDEO)}, 'which come from the prompts'),
    (['a'], {'condition': Condition(low_res=VIDEO)}, 'allowed are mask, masked_video.'),
    (
      ['a'],
      {'initial_video': InitialVideo(VIDEO[:, :, :4], 0.5)},
      'Got initial_video of shape (1, 4, 4, 8, 3); allowed is (1, 4, 8, 8, 3).',
    ),
    (['a'], {'initial_video': InitialVideo(VIDEO, 3)}, 'Got strength=3; allowed is 0 to 1.'),
  ],
)
def test_inputs_of_generate(pipeline, prompts, inputs, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    pipeline.generate(prompts, **inputs)


def test_no_prompts_are_no_videos(pipeline):
  assert list(pipeline.generate([])) == []


def test_numpy_arrays_and_floats_are_taken(workdirs):
  pipeline = Pipeline.load(workdirs / 'masked')
  condition, start = Condition(mask=MASK, masked_video=VIDEO), InitialVideo(VIDEO, 0.5)
  [first] = pipeline.generate(['a'], condition=condition, initial_video=start)
  [again] = pipeline.generate(
    ['a'], initial_video=InitialVideo(jnp.asarray(VIDEO), jnp.asarray(0.5))
  )
  np.testing.assert_array_equal(first, again)


def test_a_required_field_has_the_shape_that_the_stage_declares(pipeline):
  base = pipeline.base
  low_res = jax.ShapeDtypeStruct((FRAMES, 2, 2, 3), jnp.float32)
  fields = {**base.stage.required_condition, 'low_res': low_res}
  stage = dataclasses.replace(base.stage, required_condition=fields)
  condition = lambda side: Condition(low_res=np.zeros((1, FRAMES, side, side, 3), np.float32))
  require_condition(condition(2), stage, base.config, (SIDE, SIDE))
  message = 'Got low_res of shape (1, 4, 4, 4, 3); allowed is (1, 4, 2, 2, 3).'
  with pytest.raises(ValueError, match=re.escape(message)):
    require_condition(condition(4), stage, base.config, (SIDE, SIDE))
