import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.params import names
from tests.oracles import random_params, relative_error
from text.t5 import T5Encoder, bucket, shapes

SIZES = dict(vocabulary=50, width=24, heads=3, head_features=4, hidden=40, layers=2, buckets=8)


def network(**sizes):
  """A T5 with random parameters, as a function of tokens and mask."""
  model = T5Encoder(**SIZES | sizes)
  example = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
  params = random_params(jax.eval_shape(model.init, jax.random.key(0), *example)['params'])
  return jax.jit(lambda *inputs: model.apply({'params': params}, *map(jnp.asarray, inputs)))


def drawn(n, b=2):
  return np.random.default_rng(0).integers(0, 50, (b, n), dtype=np.int32)


@pytest.mark.parametrize(('buckets', 'most'), [(32, 128), (20, 50), (8, 20)])
def test_a_distance_is_in_the_last_bucket_that_begins_before_it(buckets, most):
  each, exact = buckets // 2, buckets // 4

  def slow(distance):
    if distance > 0:
      return each + slow(-distance)
    if -distance < exact:
      return -distance
    # That k / (each - exact) of the way to the farthest, in logarithms: with whole numbers alone.
    begins = lambda k: (-distance) ** (each - exact) >= most**k * exact ** (each - exact - k)
    return exact + max(k for k in range(each - exact) if begins(k))

  distance = np.arange(-2 * most, 2 * most + 1)
  np.testing.assert_array_equal(bucket(distance, buckets, most), [slow(int(d)) for d in distance])


def test_masked_tokens_are_not_attended_to():
  apply, tokens = network(), drawn(6)
  mask = np.arange(6) < np.asarray([[6], [3]])
  others = np.where(mask, tokens, (tokens + 7) % 50)
  text, text_of_others = apply(tokens, mask), apply(others, mask)
  np.testing.assert_array_equal(text[mask], text_of_others[mask])
  assert relative_error(text_of_others[~mask], text[~mask]) > 0.1  # but they have embeddings too
  alone = apply(tokens[1:, :3], mask[1:, :3])
  assert relative_error(text[1:, :3], alone) < 1e-6


def test_it_hears_the_order_of_tokens_and_nothing_of_their_place():
  apply, tokens = network(), np.tile(drawn(3, b=1), 3)
  text = apply(tokens, np.arange(9)[None] < 3)
  moved = apply(tokens, (np.arange(9)[None] >= 3) & (np.arange(9)[None] < 6))
  assert relative_error(moved[:, 3:6], text[:, :3]) < 1e-6
  turned = apply(tokens[:, ::-1], np.arange(9)[None] < 3)
  assert relative_error(turned[:, 2::-1], text[:, :3]) > 0.01


def test_products_in_bfloat16_are_near():
  tokens, mask = drawn(9), np.ones((2, 9), bool)
  text = network(dtype='bfloat16')(tokens, mask)
  assert text.dtype == jnp.bfloat16
  assert 1e-4 < relative_error(text, network()(tokens, mask)) < 2e-2


def test_shapes_are_those_of_new_parameters():
  model = T5Encoder(**SIZES | {'layers': 3})
  example = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
  params = jax.eval_shape(model.init, jax.random.key(0), *example)['params']
  assert shapes(model) == {name: p.shape for name, p in names(params).items()}


def test_the_size_of_t5_xxl():
  config = dict(vocabulary=32128, width=4096, heads=64, head_features=64, hidden=10240, layers=24)
  sizes = map(math.prod, shapes(T5Encoder(**config)).values())
  assert sum(sizes) == 4_762_310_656  # as transformers counts
