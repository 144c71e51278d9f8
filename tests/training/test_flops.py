import jax
import jax.numpy as jnp
import pytest

from training import flops


def operations(function, *shapes):
  return flops.count(jax.make_jaxpr(function)(*map(jnp.zeros, shapes)).jaxpr)


def conv(x, kernel, stride=1):
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def test_a_product_has_two_operations_for_each_multiply_and_add():
  assert operations(jnp.matmul, (3, 4), (4, 5)) == 2 * 3 * 4 * 5
  batched = lambda a, b: jnp.einsum('bik,bkj->bij', a, b)
  assert operations(batched, (7, 3, 4), (7, 4, 5)) == 7 * 2 * 3 * 4 * 5


@pytest.mark.parametrize('stride', [1, 2])
def test_a_convolution_and_its_two_gradients(stride):
  x, kernel = (2, 8, 8, 3), (3, 3, 3, 5)
  forward = 2 * (2 * (8 // stride) ** 2 * 5) * (3 * 3 * 3)
  assert operations(lambda x, k: conv(x, k, stride), x, kernel) == forward
  loss = lambda x, k: conv(x, k, stride).sum()
  assert operations(jax.grad(loss, (0, 1)), x, kernel) == pytest.approx(3 * forward, rel=0.2)


def test_loops_are_multiplied_out_and_the_costliest_branch_counts():
  square = lambda x: x @ x
  scanned = lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, length=10)[0]
  assert operations(scanned, (4, 4)) == 10 * operations(square, (4, 4))
  either = lambda x: jax.lax.cond(x.sum() > 0, lambda x: x @ x @ x, lambda x: x @ x, x)
  assert operations(either, (4, 4)) == 2 * operations(square, (4, 4))
  assert operations(jax.jit(scanned), (4, 4)) == 10 * operations(square, (4, 4))


def test_recomputation_is_seen_in_a_jaxpr_that_has_it():
  layer = lambda x: jnp.sin(x @ x)
  plain = operations(jax.grad(lambda x: layer(layer(x)).sum()), (4, 4))
  again = operations(jax.grad(lambda x: layer(jax.checkpoint(layer)(x)).sum()), (4, 4))
  assert again > plain


def test_the_peak_is_that_of_the_kind_of_device():
  assert flops.peak('TPU v5 lite') == 197e12
  assert flops.peak('TPU v5') == 459e12
  assert flops.peak('NVIDIA H100 80GB HBM3') == 989e12
  assert flops.peak('cpu') is None
