"""Meshes of devices, and how arrays are sharded over them.

The axes of a mesh are `data` and `fsdp`, over which a batch is sharded, and `time`, whose devices
share a clip.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from core.errors import UserError
from core.typing import Params, Video

BATCH = ('data', 'fsdp')
CLIP = 'time'
AXES = (*BATCH, CLIP)


def make_mesh(axes: Sequence[tuple[str, int]], devices=None) -> jax.sharding.Mesh:
  """A mesh with axes such as `(('data', -1), ('fsdp', 2))`; a size of -1 is the remaining devices.

  An axis that is not named has size 1.  The axes of the mesh are always in the order of `AXES`, so
  that devices that share a clip are neighbours.
  """
  devices = jax.devices() if devices is None else devices
  named = dict(axes)
  valid = len(named) == len(axes) and set(named) <= set(AXES)
  if not valid or 0 in named.values() or sum(s < 0 for s in named.values()) > 1:
    raise UserError(
      f'Got mesh={tuple(axes)}; allowed are the axes {", ".join(AXES)}, at most one of size -1.'
    )
  stated = math.prod(s for s in named.values() if s > 0)
  sizes = [named.get(axis, 1) for axis in AXES]
  sizes = [len(devices) // stated if s < 0 else s for s in sizes]
  if math.prod(sizes) != len(devices):
    raise UserError(
      f'A mesh of {"x".join(map(str, sizes))} does not fit {len(devices)} devices; the product of '
      'its sizes must be the number of devices.'
    )
  return jax.sharding.Mesh(
    _device_array(sizes, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES)
  )


def _device_array(sizes: Sequence[int], devices: Sequence) -> np.ndarray:
  """The devices in an array with one size for each of `AXES`, in which neighbours are physically
  close.

  Several TPU slices are divided along the first axis, `data`, which communicates least: chips of a
  slice have fast links, but slices are connected only by the network of the data centre.
  """
  # Without this, a slice of 16x16 can have no axis of size 2: JAX would keep physical axes whole.
  split = dict(allow_split_physical_axes=True)
  # On other platforms `slice_index` may exist with another meaning.
  slices = {d.slice_index for d in devices if d.platform == 'tpu' and hasattr(d, 'slice_index')}
  if (n := len(slices)) < 2:
    return mesh_utils.create_device_mesh(sizes, devices, **split)
  data, *others = sizes
  if data % n:
    raise UserError(
      f'Got {BATCH[0]}={data} in the mesh on {n} TPU slices, which are divided along that axis; '
      f'allowed are multiples of {n}.'
    )
  return mesh_utils.create_hybrid_device_mesh((data // n, *others), (n, 1, 1), devices, **split)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The sharding of an array that is replicated on every device."""
  return NamedSharding(mesh, P())


def over_batch(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The sharding of a batch: its first axis over `data` and `fsdp`, replicated over `time`."""
  return NamedSharding(mesh, P(BATCH))


def over_all(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The sharding of an array's first axis over all devices."""
  return NamedSharding(mesh, P(AXES))


def rows(batch: int, mesh: jax.sharding.Mesh) -> list[int]:
  """The rows of the global batch that the devices of this process hold, in ascending order.

  The sharding of the batch determines them, and they need not be consecutive: on a slice of 4x4x8
  chips with `fsdp` 128, a host of 2x2 chips has the rows [0, 8, 32, 40].  Processes whose devices
  share a clip have the same rows.

  ValueError if the mesh does not divide the batch.
  """
  require_batch(batch, mesh)
  process = jax.process_index()
  indices = over_batch(mesh).devices_indices_map((batch,))
  local = (index for device, (index,) in indices.items() if device.process_index == process)
  return sorted({row for index in local for row in range(*index.indices(batch))})


def require_batch(batch: int, mesh: jax.sharding.Mesh, accumulate: int = 1) -> None:
  """Raises ValueError unless `data` times `fsdp` divides each of `accumulate` microbatches."""
  n = mesh.size // mesh.shape[CLIP]
  step = n * accumulate
  if batch % step:
    below = batch // step * step
    near = ' and '.join(str(b) for b in (below, below + step) if b)
    times = f'accumulate={accumulate} times ' if accumulate > 1 else ''
    raise UserError(
      f'Got a batch of {batch} clips; allowed are multiples of {step} ({times}data times fsdp of '
      f'the mesh), such as {near}.  With a larger axis {CLIP}, more devices share a clip.'
    )


def filled(batch: int, mesh: jax.sharding.Mesh) -> int:
  """The smallest number of clips, `batch` or more, that `data` times `fsdp` divides."""
  n = mesh.size // mesh.shape[CLIP]
  return -(-batch // n) * n


def fsdp(tree, mesh: jax.sharding.Mesh, min_size: int, over: Sequence[str] = ('fsdp',)):
  """A tree of shardings: the longest axis that these axes of the mesh, `fsdp` alone in training,
  divide is sharded over them.

  Arrays of fewer than `min_size` numbers are replicated.  The last axis, which fills the lanes of a
  TPU, is sharded only if no other can be: for a kernel sharded along it XLA chose another layout,
  with which the product for its gradient took 80 times as long.
  """

  n = math.prod(mesh.shape[axis] for axis in over)

  def sharding(x):
    spec, last = [None] * x.ndim, x.ndim - 1
    if x.size >= min_size:
      for i in sorted(range(x.ndim), key=lambda i: (i == last, -x.shape[i])):
        if x.shape[i] % n == 0:
          spec[i] = over[0] if len(over) == 1 else tuple(over)
          break
    return NamedSharding(mesh, P(*spec))

  return jax.tree.map(sharding, tree)


def reshard(x: jax.Array, sharding: NamedSharding) -> jax.Array:
  """The array with another sharding on the same devices, which may be of several processes."""
  return x if x.sharding == sharding else jax.jit(lambda x: x, out_shardings=sharding)(x)


def to_mesh(x: jax.Array, mesh: jax.sharding.Mesh) -> jax.Array:
  """An array that is replicated on its devices, on another mesh of the same devices.

  They may be of several processes, and in another order.  Nothing is sent.
  """
  copies = [shard.data for shard in x.addressable_shards]
  return jax.make_array_from_single_device_arrays(x.shape, replicated(mesh), copies)


def put_batch(batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
  """The global batch on the devices, from the `rows` of it that each process passes in."""
  sharding, n = over_batch(mesh), mesh.size // mesh.shape[CLIP]
  parts = rows(n, mesh)  # devices that share clips count as one

  def put(x):
    each = len(x) // len(parts)

    def device_shard(index):
      i = parts.index(index[0].indices(n * each)[0] // each)
      return x[i * each : (i + 1) * each]

    return jax.make_array_from_callback((n * each, *x.shape[1:]), sharding, device_shard)

  return jax.tree.map(put, batch)


def of_each(value: bool, mesh: jax.sharding.Mesh) -> jax.Array:
  """A global array with one element for each device: the `value` of its process."""
  local = lambda index: np.full(1, value)
  return jax.make_array_from_callback((mesh.size,), over_all(mesh), local)


def shard_activations(x: Video) -> Video:
  """The video's features, sharded over the mesh that is set, if one is.

  Clips are sharded over `data` and `fsdp`.  The frames of a clip are sharded over `time`, or its
  rows or columns where the number of frames does not divide: spatial layers then need no other
  frame, and temporal layers no other row.  Where none of the three divides, every device of `time`
  holds the whole clip.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  n = mesh.shape[CLIP]
  axis = next((i for i in (1, 2, 3) if x.shape[i] % n == 0), None)
  split = [CLIP if i == axis else None for i in (1, 2, 3)]
  batch = BATCH if len(x) % (mesh.shape['data'] * mesh.shape['fsdp']) == 0 else None
  return jax.lax.with_sharding_constraint(x, P(batch, *split))


def replicate(params: Params) -> Params:
  """The parameters, replicated on every device of the mesh that is set, if one is.

  Parameters that are stored sharded over `fsdp` are gathered here, before they are used.  Otherwise
  XLA may shard the channels of a video because the kernel's channels are sharded.
  """
  if jax.sharding.get_abstract_mesh().empty:
    return params
  return jax.tree.map(lambda p: jax.lax.with_sharding_constraint(p, P()), params)
