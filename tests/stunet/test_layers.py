"""The layers that blocks are made of, against Flax's and their definitions in numpy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stunet.layers import (
  Conv1D,
  Conv2D,
  Dense,
  GroupNorm,
  add_bias_float32_grad,
  per_frame,
  pixel_shuffle,
  pixel_unshuffle,
)
from tests import oracles
from tests.oracles import layer, random_params, relative_error

RNG = np.random.default_rng(0)


def normal(*shape):
  return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize(('ours', 'flax'), [
  (lambda dtype: Dense(6, dtype), lambda dtype: nn.Dense(6, dtype=dtype)),
  (lambda dtype: Dense(6, dtype, add_bias=None),
   lambda dtype: nn.Dense(6, use_bias=False, dtype=dtype)),
  (lambda dtype: Conv2D(6, dtype), lambda dtype: nn.Conv(6, (3, 3), dtype=dtype)),
  (lambda dtype: Conv2D(6, dtype, size=1, stride=2),
   lambda dtype: nn.Conv(6, (1, 1), strides=2, dtype=dtype)),
], ids=['dense', 'without bias', 'conv', 'strided conv'])  # fmt: skip
def test_dense_and_conv_are_those_of_flax_to_the_bit(ours, flax, dtype):
  x, modules = normal(2, 4, 4, 8), (ours(dtype), flax(dtype))
  new = [jax.jit(module.init)(jax.random.key(0), x)['params'] for module in modules]
  jax.tree.map(np.testing.assert_array_equal, *new)
  params = random_params(new[0])

  def output_and_gradients(module):
    apply = lambda params, x: module.apply({'params': params}, x)
    y, backward = jax.vjp(apply, params, x)
    return y, backward(jnp.cos(y))

  got, want = (jax.jit(output_and_gradients, static_argnums=0)(module) for module in modules)
  assert got[0].dtype == dtype
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_per_frame_applies_a_layer_to_each_frame_of_each_clip():
  x = normal(2, 3, 4, 4, 8)
  got = per_frame(lambda frames, scale: scale * frames.cumsum(2)[:, ::2])(jnp.asarray(x), 2.0)
  np.testing.assert_allclose(got, 2 * x.cumsum(3)[:, :, ::2], rtol=1e-5)


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float32', 3e-6), ('bfloat16', 4e-3)])
def test_group_norm_is_that_of_flax(dtype, tolerance):
  x = jnp.asarray(3 + normal(2, 4, 5, 8), dtype)
  mask = jnp.asarray(RNG.random((2, 4, 5)) < 0.7)
  scale, shift = jnp.asarray(normal(2, 8)), jnp.asarray(normal(2, 8))
  params = random_params(jax.eval_shape(GroupNorm(4, dtype).init, jax.random.key(0), x)['params'])
  got = GroupNorm(4, dtype).apply({'params': params}, x, scale, shift, mask)
  flax = nn.GroupNorm(4, epsilon=1e-5).bind({'params': params})
  want = flax(x.astype(jnp.float32), mask=jnp.broadcast_to(mask[..., None], x.shape))
  want = want * (1 + scale[:, None, None]) + shift[:, None, None]
  assert got.dtype == dtype
  assert relative_error(got, want) < tolerance


@pytest.mark.parametrize(('t', 'stride'), [(1, 1), (5, 1), (6, 2), (8, 4)])
def test_conv1d_is_a_sum_over_three_frames(t, stride):
  x = normal(2, t, 4, 4, 8)
  p, got = layer(Conv1D('float32', stride), x)
  assert relative_error(got(x), oracles.conv1d(x, p, stride)) < 1e-6


@pytest.mark.parametrize(('dtype', 'error'), [('float32', 1e-6), ('bfloat16', 1e-2)])
def test_a_bias_is_added_and_its_gradient_is_the_sum_over_all_places(dtype, error):
  x, bias, weight = normal(2, 3, 4, 4, 8).astype(dtype), normal(8), normal(2, 3, 4, 4, 8)
  total = lambda x, bias: (add_bias_float32_grad(x, bias) * weight).sum()
  np.testing.assert_array_equal(jax.jit(add_bias_float32_grad)(x, bias), x + bias.astype(dtype))
  x_grad, bias_grad = jax.jit(jax.grad(total, (0, 1)))(jnp.asarray(x), jnp.asarray(bias))
  np.testing.assert_array_equal(x_grad, weight.astype(dtype))
  assert bias_grad.dtype == 'float32'
  assert relative_error(bias_grad, weight.sum((0, 1, 2, 3))) < error


def test_pixel_unshuffle_makes_channels_of_the_pixels_of_a_patch():
  x = jnp.arange(2 * 4 * 6 * 3).reshape(1, 2, 4, 6, 3).astype(jnp.float32)
  y = pixel_unshuffle(x, 2)
  assert y.shape == (1, 2, 2, 3, 12)
  for i, j, p, q, c in np.ndindex(2, 3, 2, 2, 3):
    np.testing.assert_array_equal(
      y[0, :, i, j, 6 * p + 3 * q + c], x[0, :, 2 * i + p, 2 * j + q, c]
    )
  np.testing.assert_array_equal(pixel_shuffle(y, 2), x)
