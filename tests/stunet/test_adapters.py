import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.params import names, partition
from stunet.adapters import ADAPTERS, add_adapters, merge_adapters

KEY = jax.random.key(0)


def params():
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {
    'conv': {'kernel': normal(3, 3, 4, 5), 'bias': normal(5)},
    'unit': {'dense': {'kernel': normal(6, 7)}, 'norm': {'scale': normal(6)}},
  }


def same(a, b):
  assert names(a).keys() == names(b).keys()
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_new_adapters_change_nothing():
  same(merge_adapters(add_adapters(params(), 2, KEY)), params())


def test_without_adapters_nothing_is_merged():
  same(merge_adapters(params()), params())


def test_every_kernel_has_an_adapter_and_nothing_else_has_one():
  adapters, rest = partition(add_adapters(params(), 2, KEY), ADAPTERS)
  same(rest, params())
  shapes = {name: p.shape for name, p in names(adapters).items()}
  assert shapes == {
    'conv/adapter/down': (36, 2),
    'conv/adapter/up': (2, 5),
    'unit/dense/adapter/down': (6, 2),
    'unit/dense/adapter/up': (2, 7),
  }


def test_a_kernel_is_increased_by_the_product():
  changed = add_adapters(params(), 2, KEY)
  down, up = jnp.arange(72.0).reshape(36, 2), jnp.arange(10.0).reshape(2, 5)
  changed['conv']['adapter'] = {'down': down, 'up': up}
  kernel = merge_adapters(changed)['conv']['kernel']
  want = np.asarray(params()['conv']['kernel'], np.float64)
  for row, column, c, f in np.ndindex(3, 3, 4, 5):
    want[row, column, c, f] += down[(row * 3 + column) * 4 + c] @ up[:, f]
  np.testing.assert_allclose(kernel, want, rtol=1e-6)
  same(merge_adapters(changed)['unit'], params()['unit'])


def test_down_has_a_variance_of_one_over_fan_in():
  down = names(add_adapters({'dense': {'kernel': jnp.zeros((4000, 3))}}, 8, KEY))[
    'dense/adapter/down'
  ]
  np.testing.assert_allclose(np.std(down), 4000**-0.5, rtol=0.05)


def test_a_rank_is_positive():
  with pytest.raises(ValueError, match='Got adapters of rank 0; allowed is 1 or more'):
    add_adapters(params(), 0, KEY)
