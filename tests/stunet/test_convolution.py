"""Convolutions with their own gradient: the same numbers as those of `lax`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stunet.convolution import MOST_PARTS, PIXELS, convolve, part_size

FRAMES, ROWS = ('NHWC', 'HWIO', 'NHWC'), ('NWC', 'WIO', 'NWC')
CASES = {
  # x, kernel, strides, padding, layout
  'frames': ((83, 16, 16, 3), (3, 3, 3, 5), (1, 1), 'SAME', FRAMES),
  'halved frames': ((90, 16, 16, 3), (3, 3, 3, 5), (2, 2), 'SAME', FRAMES),
  'rows over time': ((600, 22, 3), (3, 3, 4), (1,), 'VALID', ROWS),
}


def plain(x, kernel, strides, padding, layout):
  return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


def arrays(case):
  x, kernel, *options = CASES[case]
  key = jax.random.split(jax.random.key(0))
  return jax.random.normal(key[0], x), jax.random.normal(key[1], kernel), options


def loss(run, x, kernel, options):
  return jnp.sum(jnp.sin(run(x, kernel, *options)))


@pytest.mark.parametrize('case', CASES)
def test_the_result_has_the_same_bits_and_the_gradients_are_the_same(case):
  x, kernel, options = arrays(case)
  assert part_size(len(x), math.prod(x.shape[1:-1]) // math.prod(options[0])) < len(x)
  np.testing.assert_array_equal(convolve(x, kernel, *options), plain(x, kernel, *options))
  gradients = lambda run: jax.jit(jax.grad(lambda x, k: loss(run, x, k, options), (0, 1)))(
    x, kernel
  )
  for got, wanted in zip(gradients(convolve), gradients(plain), strict=True):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_parts_in_bfloat16_are_added_without_rounding():
  x, kernel, options = arrays('frames')
  low = lambda a: a.astype(jnp.bfloat16)
  gradient = lambda run, x, k: jax.jit(jax.grad(lambda k: loss(run, x, k, options)))(k)
  got, as_a_whole = (gradient(run, low(x), low(kernel)) for run in (convolve, plain))
  exact = gradient(plain, low(x).astype(jnp.float32), low(kernel).astype(jnp.float32))
  error = lambda g: float(jnp.linalg.norm(g - exact) / jnp.linalg.norm(exact))
  assert got.dtype == jnp.bfloat16
  assert error(got) <= 1.2 * error(as_a_whole) + 1e-3


@pytest.mark.parametrize(('which', 'convolutions'), [(0, 2), (1, 2), ((0, 1), 3)])
def test_no_gradient_is_computed_that_is_not_needed(which, convolutions):
  """One convolution for the result, and one for each gradient: in one part for so few frames."""
  x, kernel, options = arrays('frames')
  few = x[:8]
  gradient = jax.grad(lambda x, k: loss(convolve, x, k, options), which)
  assert str(jax.make_jaxpr(gradient)(few, kernel)).count('conv_general_dilated[') == convolutions


@pytest.mark.parametrize('batch', [1, 5, 83, 320, 5000])
@pytest.mark.parametrize('pixels', [1, 16, 256, 16384])
def test_parts_are_few_and_of_a_multiple_of_four_frames(batch, pixels):
  size = part_size(batch, pixels)
  assert size % 4 == 0
  assert -(-batch // size) <= MOST_PARTS
  assert size <= max(4, PIXELS // pixels, batch / MOST_PARTS + 4)


def test_over_several_devices_the_batch_is_not_divided():
  x, kernel, options = arrays('frames')
  gradient = jax.grad(lambda k: loss(convolve, x, k, options))
  count = lambda: str(jax.make_jaxpr(gradient)(kernel)).count('conv_general_dilated[')
  whole_and_parts = count()
  with jax.set_mesh(jax.make_mesh((2,), ('data',))):
    assert count() == 2 < whole_and_parts
