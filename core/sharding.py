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
  """A mesh from `(('data', -1), ('fsdp', 2))`; a single -1 takes the devices that are left.

  An axis that is not named has size 1.  They are in the order of `AXES`, whichever is given: the
  devices that share a clip are each other's neighbours.
  """
  devices = jax.devices() if devices is None else devices
  named = dict(axes)
  known = len(named) == len(axes) and set(named) <= set(AXES)
  if not known or 0 in named.values() or sum(s < 0 for s in named.values()) > 1:
    raise UserError(
      f'The mesh is {tuple(axes)}; its axes are {", ".join(AXES)}, at most one of size -1.'
    )
  given = math.prod(s for s in named.values() if s > 0)
  sizes = [named.get(axis, 1) for axis in AXES]
  sizes = [len(devices) // given if s < 0 else s for s in sizes]
  if math.prod(sizes) != len(devices):
    raise UserError(
      f'A mesh of {"x".join(map(str, sizes))} does not fit {len(devices)} devices; '
      'the product of its sizes must be their number.'
    )
  return jax.sharding.Mesh(_arranged(sizes, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _arranged(sizes: Sequence[int], devices: Sequence) -> np.ndarray:
  """The devices as an array of these sizes, one for each of `AXES`: neighbours are near each other.

  Those of several TPU slices are divided by the first axis, `data`, which sends least: within a
  slice chips have links, between slices is the network of the data centre.
  """
  # jax.make_mesh has no axis of 2 on a slice of 16x16: it keeps each physical axis whole.
  split = dict(allow_split_physical_axes=True)
  # On other platforms `slice_index`, where it is there, means something else.
  slices = {d.slice_index for d in devices if d.platform == 'tpu' and hasattr(d, 'slice_index')}
  if (n := len(slices)) < 2:
    return mesh_utils.create_device_mesh(sizes, devices, **split)
  data, *others = sizes
  if data % n:
    raise UserError(
      f'The mesh has {BATCH[0]} {data} on {n} slices, which are divided by that axis; allowed are '
      f'multiples of {n}.'
    )
  return mesh_utils.create_hybrid_device_mesh((data // n, *others), (n, 1, 1), devices, **split)


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, P())


def over_batch(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The first axis spread over all devices but those that share a clip, which have the same."""
  return NamedSharding(mesh, P(BATCH))


def over_all(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The first axis spread over all devices."""
  return NamedSharding(mesh, P(AXES))


def rows(batch: int, mesh: jax.sharding.Mesh) -> list[int]:
  """The rows of a batch of this size that the devices of this process hold, in ascending order.

  They are what the sharding of the batch says, and need not follow each other: on a slice of
  4x4x8 chips with `fsdp` 128 a host of 2x2 chips has [0, 8, 32, 40].  Processes whose devices share
  a clip have the same rows.  ValueError where the batch does not divide over the mesh.
  """
  require_batch(batch, mesh)
  process = jax.process_index()
  indices = over_batch(mesh).devices_indices_map((batch,))
  mine = (index for device, (index,) in indices.items() if device.process_index == process)
  return sorted({row for index in mine for row in range(*index.indices(batch))})


def require_batch(batch: int, mesh: jax.sharding.Mesh, accumulate: int = 1) -> None:
  """ValueError unless each of `accumulate` microbatches of the batch divides over the devices that
  have clips of their own."""
  n = mesh.size // mesh.shape[CLIP]
  step = n * accumulate
  if batch % step:
    below = batch // step * step
    near = ' and '.join(str(b) for b in (below, below + step) if b)
    what = f'in {accumulate} microbatches (accumulate) ' if accumulate > 1 else ''
    by = f'{step}, {accumulate} times' if accumulate > 1 else f'{n},'
    raise UserError(
      f'A batch of {batch} clips {what}does not divide by {by} the product of the axes data and '
      f'fsdp of the mesh: near it are {near}; or let more devices share a clip, by its axis {CLIP}.'
    )


def filled(batch: int, mesh: jax.sharding.Mesh) -> int:
  """The least number of clips, `batch` or more, that divides over the devices that have clips of
  their own."""
  n = mesh.size // mesh.shape[CLIP]
  return -(-batch // n) * n


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
  """The global batch, of which each process brings its `rows`."""
  sharding, n = over_batch(mesh), mesh.size // mesh.shape[CLIP]
  parts = rows(n, mesh)  # the devices that have the same clips count as one

  def put(x):
    each = len(x) // len(parts)

    def of_device(index):
      at = parts.index(index[0].indices(n * each)[0] // each)
      return x[at * each : (at + 1) * each]

    return jax.make_array_from_callback((n * each, *x.shape[1:]), sharding, of_device)

  return jax.tree.map(put, batch)


def of_each(value: bool, mesh: jax.sharding.Mesh) -> jax.Array:
  """What each process says, once for each of its devices."""
  said = lambda index: np.full(1, value)
  return jax.make_array_from_callback((mesh.size,), over_all(mesh), said)


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
