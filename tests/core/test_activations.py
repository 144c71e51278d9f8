import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from core.sharding import make_mesh, shard_activations


def test_without_a_mesh_nothing_is_said():
  x = jnp.zeros((2, 4, 4, 4, 3))
  assert shard_activations(x) is x


@pytest.mark.parametrize(
  ('shape', 'spec'),
  [
    ((4, 16, 6, 6, 3), P(('data', 'fsdp'), 'time')),
    ((4, 6, 8, 6, 3), P(('data', 'fsdp'), None, 'time')),
    ((4, 6, 6, 4, 3), P(('data', 'fsdp'), None, None, 'time')),
    ((4, 6, 6, 6, 3), P(('data', 'fsdp'))),
    ((3, 16, 6, 6, 3), P(None, 'time')),
  ],
)
def test_frames_are_sharded_or_rows_or_columns(shape, spec):
  mesh = make_mesh((('data', 2), ('time', 4)))
  with jax.set_mesh(mesh):
    y = jax.jit(shard_activations)(jnp.zeros(shape))
  assert y.sharding.is_equivalent_to(jax.NamedSharding(mesh, spec), y.ndim)
