import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from diffusion.denoiser import clipped, composited, dynamically_thresholded, guided, network
from diffusion.process import Process, per_example

PARAMS = {'shift': 0.5}
T = jnp.float32([0.2, 0.9])


def normal(*shape, seed=0):
  return jax.random.normal(jax.random.key(seed), shape)


def condition():
  return Condition(normal(2, 3, 4, seed=1), low_res=normal(2, 2, 3, 3, 1, seed=2))


def predict(params, xt, t, cond):
  """Something which depends on everything, and is not linear."""
  of_text = per_example(cond.text.sum((1, 2)), xt)
  return jnp.tanh(xt + params['shift']) * per_example(1 + t, xt) + of_text + cond.low_res


@pytest.mark.parametrize('prediction', ['eps', 'v', 'x0'])
def test_network_is_the_x0_of_its_prediction(prediction):
  process, xt, x0 = Process(prediction=prediction), normal(2, 2, 3, 3, 3), normal(2, 2, 3, 3, 3)
  right = process.target(x0, T, process.eps_from(xt, T, x0))
  learned = jnp.full_like(right, 0.3)
  for output in (right, jnp.concatenate([right, learned], -1)):
    denoiser = network(lambda params, xt, t, cond: params['output'], {'output': output}, process)
    got = denoiser(xt, T, condition())
    np.testing.assert_allclose(got[..., :3], x0, atol=2e-5)
    np.testing.assert_array_equal(got[..., 3:], output[..., 3:])


def test_a_learned_variance_is_that_of_the_text_and_no_change_of_x0_touches_it():
  xt, cond = normal(2, 2, 3, 3, 1), condition().without_text(False)

  def network(xt, t, cond):
    has_text = cond.text_mask.any(-1)[:, None, None, None, None] * jnp.ones_like(xt)
    return jnp.concatenate([5 * xt + has_text, 2 * has_text], -1)

  cond = cond.replace(masked_video=jnp.zeros_like(xt), mask=jnp.ones_like(xt))
  changes = (
    clipped,
    dynamically_thresholded,
    composited,
    lambda d: guided(d, 7.0),
  )
  for change in changes:
    plain = change(lambda xt, t, cond: network(xt, t, cond)[..., :1])(xt, T, cond)
    got = change(network)(xt, T, cond)
    np.testing.assert_array_equal(got[..., :1], plain)
    np.testing.assert_array_equal(got[..., 1:], jnp.full_like(xt, 2))


@pytest.mark.parametrize('prediction', ['eps', 'v', 'x0'])
def test_guidance_is_the_same_in_every_prediction(prediction):
  process, xt, cond, scale = Process(prediction=prediction), normal(2, 2, 3, 3, 1), condition(), 7.5
  output = guided(network(predict, PARAMS, process), scale)(xt, T, cond)
  with_text, without = (predict(PARAMS, xt, T, c) for c in (cond, cond.without_text()))
  guided_prediction = without + scale * (with_text - without)
  wanted = process.x0_from(xt, T, guided_prediction)
  np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-4)


def test_guidance_calls_the_network_once():
  calls = []

  def denoiser(xt, t, cond):
    calls.append((xt.shape, cond.text_mask))
    return xt * per_example(cond.text.sum((1, 2)), xt)

  guided(denoiser, 3.0)(normal(2, 1, 2, 2, 1), T, condition())
  ((shape, mask),) = calls
  assert shape == (4, 1, 2, 2, 1)
  np.testing.assert_array_equal(mask.all(1), [True, False, True, False])


def test_guidance_by_one_is_the_denoiser():
  denoiser = network(predict, PARAMS, Process())
  assert guided(denoiser, 1.0) is denoiser


def test_clipping():
  def triple(xt, t, cond):
    return 3 * xt

  xt = jnp.linspace(-1, 1, 8).reshape(2, 1, 2, 2, 1)
  np.testing.assert_array_equal(clipped(triple)(xt, T, None), np.clip(3 * xt, -1, 1))
  np.testing.assert_array_equal(clipped(triple, 2.0)(xt, T, None), np.clip(3 * xt, -2, 2))


@pytest.mark.parametrize('cap', [float('inf'), 1.5])
def test_dynamic_thresholding(cap):
  scale = jnp.float32([0.1, 1, 4]).reshape(3, 1, 1, 1, 1)  # below 1, about 1, far beyond the cap
  xt = scale * normal(3, 2, 5, 5, 3)
  output = dynamically_thresholded(lambda xt, t, cond: xt, 0.9, cap)(xt, T, None)
  for x0, got in zip(np.asarray(xt, np.float64), output):
    s = min(max(np.quantile(np.abs(x0), 0.9), 1), cap)
    np.testing.assert_allclose(got, np.clip(x0, -s, s) / s, rtol=1e-5)
  assert jnp.abs(output).max() <= 1
  np.testing.assert_array_equal(output[0], xt[0])


def test_given_pixels_replace_those_of_x0():
  xt, video = normal(2, 2, 3, 3, 1), normal(2, 2, 3, 3, 1, seed=5)
  mask = jnp.zeros((2, 2, 3, 3, 1)).at[:, 0].set(1.0).at[:, 1, 0].set(0.5)
  cond = Condition.from_mask(video, mask)
  output = composited(lambda xt, t, cond: 2 * xt)(xt, T, cond)
  np.testing.assert_array_equal(output[:, 0], video[:, 0])
  np.testing.assert_allclose(output[:, 1, 0], (video[:, 1, 0] + 2 * xt[:, 1, 0]) / 2, rtol=1e-5)
  np.testing.assert_array_equal(output[:, 1, 1:], 2 * xt[:, 1, 1:])
