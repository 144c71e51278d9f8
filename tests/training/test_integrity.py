import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.sharding import fsdp, make_mesh
from training import integrity

TREE = {
  'float': jnp.linspace(-1, 1, 24).reshape(4, 6),
  'half': jnp.arange(8.0, dtype=jnp.bfloat16),
  'whole': jnp.int32(7),
  'truth': jnp.array([True, False, True]),
}
DIGEST = integrity.digest(TREE)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('float', TREE['float'].at[2, 3].set(jnp.nextafter(TREE['float'][2, 3], 9.0))),
    ('float', TREE['float'][::-1]),
    ('float', TREE['float'].reshape(6, 4)[::-1].reshape(4, 6)),
    ('float', TREE['float'].at[0, 0].multiply(-1)),
    ('half', TREE['half'].at[5].add(0.03125)),
    ('whole', jnp.int32(8)),
    ('truth', jnp.array([True, True, False])),
  ],
)
def test_every_bit_and_its_place_count(name, value):
  assert integrity.compare(TREE, DIGEST) == ''
  text = integrity.compare(TREE | {name: value}, DIGEST)
  assert text == f'1 arrays differ from what was saved: {name}'


def test_single_bits_anywhere_are_seen():
  x = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
  want = integrity.digest({'x': jnp.asarray(x)})
  rng = np.random.default_rng(1)
  for _ in range(50):
    y = x.copy()
    y.view(np.uint32)[tuple(rng.integers((64, 32)))] ^= np.uint32(1 << rng.integers(32))
    assert integrity.compare({'x': jnp.asarray(y)}, want)


def test_how_an_array_is_spread_over_devices_does_not_count():
  mesh = make_mesh((('data', 2), ('fsdp', 4)))
  spread = jax.device_put(TREE, fsdp(TREE, mesh, 4))
  assert integrity.compare(spread, DIGEST) == ''


def test_arrays_that_are_missing_or_new_differ():
  fewer = {name: value for name, value in TREE.items() if name != 'whole'}
  assert integrity.compare(fewer, DIGEST).endswith(': whole')
  assert integrity.compare(TREE | {'new': jnp.zeros(2)}, DIGEST).endswith(': new')


def test_the_digest_is_the_same_where_jax_has_64_bits():
  with jax.enable_x64(True):
    assert integrity.digest(TREE) == DIGEST


@pytest.mark.parametrize('dtype', ['float64', 'int64'])
def test_every_bit_of_wide_numbers_counts(dtype):
  with jax.enable_x64(True):
    x = np.arange(1, 25).astype(dtype).reshape(4, 6)
    want = integrity.digest({'x': jnp.asarray(x)})
    for bit in range(64):
      y = x.copy()
      y.view(np.uint64)[bit % 4, bit % 6] ^= np.uint64(1) << np.uint64(bit)
      assert integrity.compare({'x': jnp.asarray(y)}, want), bit
