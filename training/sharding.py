"""Where arrays live."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ('data', 'fsdp')


def make_mesh(axes: Sequence[tuple[str, int]], devices=None) -> jax.sharding.Mesh:
  """A mesh from `(('data', -1), ('fsdp', 2))`; a single -1 takes the devices that are left."""
  devices = jax.devices() if devices is None else devices
  names, sizes = zip(*axes)
  given = int(np.prod([s for s in sizes if s > 0]))
  if set(names) != set(AXES) or sum(s < 0 for s in sizes) > 1:
    raise ValueError(f'The mesh is {tuple(axes)}; its axes are {", ".join(AXES)}, one of size -1.')
  sizes = tuple(len(devices) // given if s < 0 else s for s in sizes)
  if int(np.prod(sizes)) != len(devices):
    raise ValueError(
      f'A mesh of {"x".join(map(str, sizes))} does not fit {len(devices)} devices; '
      'the product of its sizes must be their number.'
    )
  return jax.make_mesh(sizes, names, axis_types=(AxisType.Auto,) * len(names), devices=devices)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, P())


def over_batch(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The first axis spread over all devices."""
  return NamedSharding(mesh, P(AXES))


def fsdp(tree, mesh: jax.sharding.Mesh, min_size: int):
  """A tree of shardings: the longest axis that divides over `fsdp`; small arrays replicated."""

  def sharding(x):
    spec = [None] * x.ndim
    if x.size >= min_size:
      for i in np.argsort(x.shape)[::-1]:
        if x.shape[i] % mesh.shape['fsdp'] == 0:
          spec[i] = 'fsdp'
          break
    return NamedSharding(mesh, P(*spec))

  return jax.tree.map(sharding, tree)


def put(x: jax.Array, sharding: NamedSharding) -> jax.Array:
  """The array, sharded; one that every process has whole, or that is sharded so already."""
  if x.sharding == sharding:
    return x
  host = np.asarray(x)
  return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def put_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """The global batch, of which each process brings its part."""
  sharding = over_batch(mesh)
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
