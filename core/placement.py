"""Where the activations of a network live: all that a model says of devices.

The axes of a mesh are `data` and `fsdp`, over which a batch is spread, and `time`, whose devices
share a clip.
"""

import jax
from jax.sharding import PartitionSpec as P

from core.typing import Params, Video

BATCH = ('data', 'fsdp')
CLIP = 'time'


def spread(x: Video) -> Video:
  """The same, spread over the devices of the mesh that is set, if one is.

  Clips over those of `data` and `fsdp`; the frames of each over those of `time`, or where frames
  do not divide, its rows, or columns: what layers of space do with frames, and those of time with
  rows, needs no other device.  Of what divides by none of them, all devices of `time` have all.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  n = mesh.shape[CLIP]
  axis = next((i for i in (1, 2, 3) if x.shape[i] % n == 0), None)
  split = [CLIP if i == axis else None for i in (1, 2, 3)]
  batch = BATCH if len(x) % (mesh.shape['data'] * mesh.shape['fsdp']) == 0 else None
  return jax.lax.with_sharding_constraint(x, P(batch, *split))


def whole(params: Params) -> Params:
  """The same, all of them on every device of the mesh that is set, if one is.

  What is spread over `fsdp` to be kept is gathered to be used.  Else XLA may take a kernel that is
  spread over its channels for a wish to spread the channels of a video.
  """
  if jax.sharding.get_abstract_mesh().empty:
    return params
  return jax.tree.map(lambda p: jax.lax.with_sharding_constraint(p, P()), params)
