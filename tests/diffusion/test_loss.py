import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion.loss import squared_error
from diffusion.process import Process


def example():
  keys = jax.random.split(jax.random.key(0), 3)
  x0, eps = (jax.random.normal(key, (4, 2, 3, 3, 3)) for key in keys[:2])
  return x0, jax.random.uniform(keys[2], (4,)), eps


@pytest.mark.parametrize('prediction', ['eps', 'v', 'x0'])
def test_is_the_mean_square_of_each_example(prediction):
  process, (x0, t, eps) = Process(prediction=prediction), example()
  wrong_by = jnp.float32([0, 1, 2, 3]).reshape(4, 1, 1, 1, 1)
  loss = squared_error(process, process.target(x0, t, eps) + wrong_by, x0, t, eps)
  np.testing.assert_allclose(loss, [0, 1, 4, 9], rtol=1e-5)


def test_a_learned_variance_does_not_count():
  process, (x0, t, eps) = Process(), example()
  predicted = jnp.concatenate([process.target(x0, t, eps) + 1, jnp.full_like(x0, jnp.nan)], -1)
  np.testing.assert_allclose(squared_error(process, predicted, x0, t, eps), 1, rtol=1e-5)


def test_is_float32():
  process, (x0, t, eps) = Process(prediction='eps'), example()
  loss = squared_error(process, jnp.zeros_like(x0, jnp.bfloat16), x0, t, eps)
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, jnp.mean(eps**2, axis=(1, 2, 3, 4)), rtol=1e-6)
