"""Stages: how their networks get the conditions."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import t2v, t2v_masked
from core.condition import Condition
from core.frame_size import height_width
from pipelines.default_conditions import with_null_text
from pipelines.stages import STAGES, condition_on_masked_video, open_stage
from stunet.inflate import inflate
from tests.conftest import ROOT, SMALL
from tests.oracles import random_params
from training.stage import with_batch

KEY = jax.random.key(0)


def small(config):
  """The config with a network that compiles quickly."""
  config.model.update(SMALL)
  config.data.update(size=8, frames=4)
  return config


def test_at_initialisation_the_masked_video_changes_nothing():
  """The widened model predicts what the text-to-video model does from which it is inflated."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  plain, masked = (open_stage(small(stage.get_config())) for stage in (t2v, t2v_masked))
  x, t = normal(2, 4, 8, 8, 3), jnp.asarray([0.3, 0.8])
  cond = Condition(normal(2, 16, 64), jnp.ones((2, 16), bool))
  masked_video, mask = normal(2, 4, 8, 8, 3), normal(2, 4, 8, 8, 1)
  with_mask = cond.replace(masked_video=masked_video, mask=mask)
  shapes = lambda stage, cond: jax.eval_shape(stage.init, KEY, x, t, cond)
  params = random_params(shapes(plain, cond))
  grown = inflate(params, random_params(shapes(masked, with_mask), seed=1))
  want, apply = jax.jit(plain.apply)(params, x, t, cond), jax.jit(masked.apply)
  assert np.std(want) > 0.1
  # On some processors XLA rounds the two programs, of 3 and of 7 channels, differently.
  equal = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
  for other in (with_mask, with_mask.replace(masked_video=-3 * masked_video, mask=2 * mask)):
    equal(apply(grown, x, t, other), want)
  equal(apply(grown, x, t, cond), want)  # without a mask


def test_the_condition_has_the_clean_pixels_where_the_mask_is_true():
  rng = np.random.default_rng(0)
  x0 = jnp.asarray(rng.uniform(-1, 1, (2, 3, 4, 4, 3)), jnp.float32)
  mask = jnp.asarray(rng.random((2, 3, 4, 4)) < 0.5)
  batch = {'text': jnp.ones((2, 1, 5)), 'text_mask': jnp.ones((2, 1), bool), 'mask': mask}
  cond = condition_on_masked_video(KEY, x0, batch)
  np.testing.assert_array_equal(cond.mask[..., 0], mask)
  np.testing.assert_array_equal(cond.masked_video, jnp.where(mask[..., None], x0, 0))
  np.testing.assert_array_equal(cond.text, batch['text'])


def test_a_dropped_text_is_the_embedding_of_the_empty_text():
  seen = []
  null, null_mask = jnp.full((1, 3, 2), 7.0), jnp.array([[True, True, False]])
  apply = with_null_text(lambda params, xt, t, cond: seen.append(cond), null, null_mask)
  text = jnp.arange(12.0).reshape(2, 3, 2)
  cond = Condition(text, jnp.ones((2, 3), bool)).without_text(jnp.array([False, True]))
  apply(None, None, None, cond)
  np.testing.assert_array_equal(seen[0].text, np.stack([text[0], null[0]]))
  np.testing.assert_array_equal(seen[0].text_mask, [[True] * 3, [True, True, False]])
  apply(None, None, None, Condition(text))  # no text is dropped without a mask
  np.testing.assert_array_equal(seen[1].text, text)


def test_every_config_names_a_stage_of_the_table():
  names = {path.stem for path in (ROOT / 'configs').glob('*.py')} & STAGES.keys()
  assert names == STAGES.keys()
  for name in names:
    config = importlib.import_module(f'configs.{name}').get_config()
    assert config.stage == name


def test_an_unknown_stage_is_named_with_those_that_there_are():
  config = t2v.get_config()
  config.stage = 't2x'
  with pytest.raises(ValueError, match='Unknown stage') as error:
    open_stage(config)
  assert str(error.value) == f"Unknown stage: 't2x'.  Allowed: {', '.join(sorted(STAGES))}."


@pytest.mark.parametrize('size', [8, (8, 12)])
@pytest.mark.parametrize('name', sorted(STAGES))
def test_a_stage_declares_what_its_network_is_trained_on_and_sampled_with(name, size):
  """The declared batch makes a condition that the network takes, and so does the declared one of
  sampling."""
  config = small(importlib.import_module(f'configs.{name}').get_config())
  config.data.size = size
  stage = open_stage(config)
  x, batch = with_batch(stage.batch, 2)['video'], with_batch(stage.batch, 2)
  x = jax.ShapeDtypeStruct(x.shape, jnp.float32)
  assert x.shape[2:4] == height_width(size)
  t = jax.ShapeDtypeStruct((2,), jnp.float32)
  cond = jax.eval_shape(stage.make_condition, KEY, x, batch)
  params = jax.eval_shape(stage.init, KEY, x, t, cond)
  assert jax.eval_shape(stage.apply, params, x, t, cond).shape == x.shape
  sampled = Condition(**with_batch(stage.required_condition, 2))
  keys = jax.eval_shape(lambda: jax.random.split(KEY, 2))
  assert jax.eval_shape(stage.generate, params, sampled, keys).shape == x.shape
  fields = {field for field, value in vars(cond).items() if value is not None}
  assert {*stage.required_condition, *stage.optional_condition} >= fields - {'noise_level'}
