"""Evaluation and sampling in training give the same results on every mesh."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.sharding import filled, make_mesh, put_batch
from pipelines.stages import open_stage
from tests.training.test_plan import CHANGES
from training.plan import lower_between_steps, make_plan
from training.samples import to_every_host, videos_at_once
from training.validation import evaluation_rows, make_losses

AXES = {
  '1': (('data', 1),),
  '8': (('data', 8),),
  '2x2x2': (('data', 2), ('fsdp', 2), ('time', 2)),
}


def mesh_of(axes):
  return make_mesh(axes, jax.devices()[: int(np.prod(list(dict(axes).values())))])


def test_what_is_made_together_are_the_prompts_and_more_where_devices_would_idle():
  config = importlib.import_module('configs.t2v').get_config('tiny')  # of two prompts
  assert [videos_at_once(config, mesh_of(axes)) for axes in AXES.values()] == [2, 8, 4]


# The prediction depends on the noisy video, the time, and every condition of a stage.
def output(params, xt, t, cond):
  conditions = [*cond.videos.values(), cond.noise_level]
  means = sum(jnp.mean(x, range(1, x.ndim)) for x in conditions if x is not None)
  return 0.3 * xt + (t + means)[:, None, None, None, None]


@pytest.mark.parametrize('stage', ['t2i', 't2v', 't2v_masked', 'ssr'])
@pytest.mark.parametrize('clips', [3, 8])
def test_the_evaluation_loss_is_that_of_the_clips_on_every_mesh(stage, clips):
  config = importlib.import_module(f'configs.{stage}').get_config('tiny')
  config.update({'evaluate_batch': clips, 'evaluate_times': 2})
  config.data.update({'size': 8, 'frames': 1 if stage == 't2i' else 4})
  stage, rng = dataclasses.replace(open_stage(config), apply=output), np.random.default_rng(0)
  d, n, width = config.data, config.text.tokens, config.text.width
  batch = {
    'video': rng.integers(0, 256, (clips, d.frames, d.size, d.size, 3), np.uint8),
    'text': rng.normal(size=(clips, n, width)).astype(np.float32),
    'text_mask': np.ones((clips, n), bool),
  }
  if 'mask' in stage.batch:
    batch['mask'] = rng.random((clips, d.frames, d.size, d.size)) < 0.5
  losses = []
  for axes in AXES.values():
    mesh = mesh_of(axes)
    mine = evaluation_rows(clips, mesh)
    assert len(mine) == filled(clips, mesh)
    put = put_batch({name: x[mine] for name, x in batch.items()}, mesh)
    evaluate = make_losses(config, stage, mesh)
    losses.append(evaluate({}, put, jax.random.key(1), 0))
    assert losses[-1].shape == (clips,)
    assert losses[-1].is_fully_replicated
    first = to_every_host(put, 2, mesh)
    assert first.keys() == batch.keys()
    for name, x in batch.items():
      np.testing.assert_array_equal(first[name], x[:2])
  losses = np.stack(losses)
  np.testing.assert_allclose(losses, np.broadcast_to(losses[0], losses.shape), rtol=1e-5)
  other = {name: x[mine][::-1] for name, x in batch.items()}
  again = evaluate({}, put_batch(other, mesh), jax.random.key(1), 0)
  assert abs(again - losses[0]).max() > 1e-4


@pytest.mark.parametrize('stage', ['t2v', 'ssr'])
def test_what_runs_between_steps_is_lowered_for_the_mesh_of_a_run(stage):
  """With as many prompts and clips as it does not divide by."""
  config = importlib.import_module(f'configs.{stage}').get_config('tiny')
  config.update_from_flattened_dict(CHANGES | {'evaluate_batch': 3, 'loader.batch': 8})
  config.update({'sample_prompts': ('one', 'two', 'three')})
  config.sampling.steps = 1
  if stage == 'ssr':
    config.data.frames = 4
    config.model.noise_level_embedding = True
  plan = make_plan(config, mesh_of(AXES['8']), open_stage)
  result = lower_between_steps(plan, jax.eval_shape(lambda: jax.random.key(0)))
  assert result.keys() == {'evaluation', 'samples'}
  for program, count in (('evaluation', 8), ('samples', 8)):
    video = f'tensor<{count}x{config.data.frames}x8x8x3x'
    assert video in result[program].as_text(), program
