"""Stages which are given part of a video."""

import jax
import jax.numpy as jnp
import numpy as np

from configs import t2v, t2v_masked
from core.condition import Condition
from core.given import Given
from pipelines.stage import given_too, hearing, open_stage
from stunet.inflate import inflate
from tests.conftest import SMALL
from tests.oracles import random_params

KEY = jax.random.key(0)


def small(config):
  """The config with a network that compiles quickly."""
  config.model.update(SMALL)
  config.data.update(size=8, frames=4)
  return config


def test_at_birth_what_is_given_changes_nothing():
  """The widened model is the text-to-video model it grew from, whatever it is given."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  plain, masked = (open_stage(small(stage.get_config())) for stage in (t2v, t2v_masked))
  x, t = normal(2, 4, 8, 8, 3), jnp.asarray([0.3, 0.8])
  cond = Condition(normal(2, 16, 64), jnp.ones((2, 16), bool))
  told = cond.replace(frames=normal(2, 4, 8, 8, 4))
  shapes = lambda stage, cond: jax.eval_shape(stage.init, KEY, x, t, cond)
  params = random_params(shapes(plain, cond))
  grown = inflate(params, random_params(shapes(masked, told), seed=1))
  # Without fusion emitters XLA rounds the two programs differently.
  to_the_bit = {'xla_cpu_use_fusion_emitters': True}
  want = jax.jit(plain.apply, compiler_options=to_the_bit)(params, x, t, cond)
  apply = jax.jit(masked.apply, compiler_options=to_the_bit)
  assert np.std(want) > 0.1
  for given in (told, told.replace(frames=-3 * told.frames)):
    np.testing.assert_array_equal(apply(grown, x, t, given), want)
  np.testing.assert_array_equal(apply(grown, x, t, cond), want)  # and with nothing


def test_a_network_sees_the_clean_pixels_that_are_known():
  rng = np.random.default_rng(0)
  x0 = jnp.asarray(rng.uniform(-1, 1, (2, 3, 4, 4, 3)), jnp.float32)
  known = jnp.asarray(rng.random((2, 3, 4, 4)) < 0.5)
  batch = {'text': jnp.ones((2, 1, 5)), 'mask': jnp.ones((2, 1), bool), 'known': known}
  cond = given_too(KEY, x0, batch)
  want = Given.of(x0, jnp.asarray(known[..., None], jnp.float32))
  np.testing.assert_array_equal(cond.frames, want.channels)
  np.testing.assert_array_equal(cond.text, batch['text'])


def test_saying_nothing_is_saying_what_the_encoder_makes_of_it():
  seen = []
  null, null_mask = jnp.full((1, 3, 2), 7.0), jnp.array([[True, True, False]])
  apply = hearing(lambda params, xt, t, cond: seen.append(cond), null, null_mask)
  text = jnp.arange(12.0).reshape(2, 3, 2)
  cond = Condition(text, jnp.ones((2, 3), bool)).without_text(jnp.array([False, True]))
  apply(None, None, None, cond)
  np.testing.assert_array_equal(seen[0].text, np.stack([text[0], null[0]]))
  np.testing.assert_array_equal(seen[0].mask, [[True] * 3, [True, True, False]])
  apply(None, None, None, Condition(text))  # a text without a mask is all heard
  np.testing.assert_array_equal(seen[1].text, text)
