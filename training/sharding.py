"""Where arrays live."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Int

from core.placement import BATCH, CLIP

AXES = (*BATCH, CLIP)


def make_mesh(axes: Sequence[tuple[str, int]], devices=None) -> jax.sharding.Mesh:
  """A mesh from `(('data', -1), ('fsdp', 2))`; a single -1 takes the devices that are left.

  An axis that is not named has size 1.  They are in the order of `AXES`, whichever is given: the
  devices that share a clip are each other's neighbours.
  """
  devices = jax.devices() if devices is None else devices
  named = dict(axes)
  known = len(named) == len(axes) and set(named) <= set(AXES)
  if not known or 0 in named.values() or sum(s < 0 for s in named.values()) > 1:
    raise ValueError(
      f'The mesh is {tuple(axes)}; its axes are {", ".join(AXES)}, at most one of size -1.'
    )
  given = math.prod(s for s in named.values() if s > 0)
  sizes = [named.get(axis, 1) for axis in AXES]
  sizes = [len(devices) // given if s < 0 else s for s in sizes]
  if math.prod(sizes) != len(devices):
    raise ValueError(
      f'A mesh of {"x".join(map(str, sizes))} does not fit {len(devices)} devices; '
      'the product of its sizes must be their number.'
    )
  # jax.make_mesh has no axis of 2 on a slice of 16x16: it keeps each physical axis whole.
  devices = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
  return jax.sharding.Mesh(devices, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, P())


def over_batch(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The first axis spread over all devices but those that share a clip, which have the same."""
  return NamedSharding(mesh, P(BATCH))


def over_all(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The first axis spread over all devices."""
  return NamedSharding(mesh, P(AXES))


def share(mesh: jax.sharding.Mesh) -> tuple[int, int]:
  """Which part of a batch this process brings, and of how many: see `part`."""
  of = np.vectorize(lambda device: device.process_index)(mesh.devices)
  return part(of.reshape(-1, mesh.shape[CLIP]), jax.process_index())


def part(processes: Int[np.ndarray, 'rows n'], here: int) -> tuple[int, int]:
  """Which part of a batch the process `here` brings, and of how many.

  processes: that of each device, in a row for the devices that share clips.

  Processes whose devices share clips bring the same.  ValueError where parts would be uneven.
  """
  mine = np.flatnonzero((processes == here).any(1))
  index, rest = divmod(int(mine[0]), len(mine))
  if rest or mine[-1] - mine[0] >= len(mine) or len(processes) % len(mine):
    raise ValueError(
      f'Process {here} has the parts {mine.tolist()} of the {len(processes)} of a batch, which are '
      f'no even share: {CLIP} has to divide the devices of a process, or be a multiple of them.'
    )
  return index, len(processes) // len(mine)


def require_batch(batch: int, mesh: jax.sharding.Mesh) -> None:
  """ValueError unless so many clips divide over the devices that have clips of their own."""
  n = mesh.size // mesh.shape[CLIP]
  if batch % n:
    below = batch // n * n
    near = ' and '.join(str(b) for b in (below, below + n) if b)
    raise ValueError(
      f'A batch of {batch} clips does not divide by {n}, the product of the axes data and fsdp of '
      f'the mesh: near it are {near}; or let more devices share a clip, by its axis {CLIP}.'
    )


def fsdp(tree, mesh: jax.sharding.Mesh, min_size: int):
  """A tree of shardings: the longest axis that divides over `fsdp`; small arrays replicated.

  The last axis, which fills the lanes of a TPU, is divided where no other can be: XLA would lay out
  a kernel another way for it, and the product that makes its gradient took 80 times as long.
  """

  def sharding(x):
    spec, last = [None] * x.ndim, x.ndim - 1
    if x.size >= min_size:
      for i in sorted(range(x.ndim), key=lambda i: (i == last, -x.shape[i])):
        if x.shape[i] % mesh.shape['fsdp'] == 0:
          spec[i] = 'fsdp'
          break
    return NamedSharding(mesh, P(*spec))

  return jax.tree.map(sharding, tree)


def reshard(x: jax.Array, sharding: NamedSharding) -> jax.Array:
  """The array in another sharding of the devices that it is on, which may be of many processes."""
  return x if x.sharding == sharding else jax.jit(lambda x: x, out_shardings=sharding)(x)


def put_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """The global batch, of which each process brings its share."""
  sharding, (_, shares) = over_batch(mesh), share(mesh)

  def whole(x):
    shape = (len(x) * shares, *x.shape[1:])
    return jax.make_array_from_process_local_data(sharding, x, shape)

  return jax.tree.map(whole, batch)


def of_each(value: bool, mesh: jax.sharding.Mesh) -> jax.Array:
  """What each process says, once for each of its devices."""
  mine = np.full(len(mesh.local_devices), value)
  return jax.make_array_from_process_local_data(over_all(mesh), mine, (mesh.size,))
