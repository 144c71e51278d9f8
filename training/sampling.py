"""Sampling in training: videos from the parameters of a run, on the mesh of the run."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from core.condition import Condition
from core.errors import UserError
from core.sharding import filled, over_batch, replicated
from core.typing import Keys, Params
from diffusion.sampling import Generate

# (params, cond, keys) -> videos on the host, one for each key
GenerateOnHost = Callable[[Params, Condition, Keys], np.ndarray]


def videos_at_once(config: ConfigDict, mesh: jax.sharding.Mesh) -> int:
  """How many videos are generated together: as many as there are sample prompts, rounded up to
  divide over the mesh."""
  return filled(len(config.sample_prompts), mesh)


def make_generate_on_host(
  generate: Generate, count: int, mesh: jax.sharding.Mesh
) -> GenerateOnHost:
  """Returns `generate_on_host(params, cond, keys) -> videos`, of 1 to `count` videos.

  `count` divides over the mesh.  A smaller batch is filled up with copies, which are dropped in the
  end.  All processes call it together, with the same condition and keys, and each gets all videos.
  """
  fill = lambda tree: jax.tree.map(lambda x: x[jnp.arange(count) % len(x)], tree)
  shard = jax.jit(fill, out_shardings=over_batch(mesh))

  def generate_on_host(params, cond, keys):
    if len(keys) > count:
      raise UserError(f'Got {len(keys)} videos to make at once; allowed are 1 to {count}.')
    return to_every_host(generate(params, *shard((cond, keys))), len(keys), mesh)

  return generate_on_host


def to_every_host(tree, count: int, mesh: jax.sharding.Mesh):
  """The first `count` rows of arrays that are sharded over a mesh, in all processes, which call
  this together."""
  first = lambda tree: jax.tree.map(lambda x: x[:count], tree)
  return jax.tree.map(np.asarray, jax.jit(first, out_shardings=replicated(mesh))(tree))
