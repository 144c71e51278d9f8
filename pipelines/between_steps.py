"""What a run does between its steps, on the same mesh: the evaluation loss, and videos."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from core.condition import Condition
from core.errors import UserError
from core.params import merge
from core.sharding import filled, over_batch, replicated, rows
from core.typing import Float, Int, Key, Keys, Params
from diffusion.sampling import Generate
from pipelines.plan import Plan, batch_shapes, cast_frozen, condition_shapes, with_sharding
from pipelines.stage import Stage
from training.step import make_evaluation

# (params, cond, keys) -> videos on the host, one for each key
Make = Callable[[Params, Condition, Keys], np.ndarray]


def evaluation_rows(clips: int, mesh: jax.sharding.Mesh) -> list[int]:
  """Which of the clips that are evaluated at once this process brings.

  Where they do not divide over the mesh, some are brought twice, so that every device has as many.
  They come after the others, and the loss leaves them out.
  """
  return [row % clips for row in rows(filled(clips, mesh), mesh)]


def make_loss(
  config: ConfigDict, stage: Stage, mesh: jax.sharding.Mesh
) -> Callable[[Params, dict, Key, Int['']], Float[' b']]:
  """Returns the jitted `evaluate(params, batch, key, number) -> losses` of a run: that of each of
  `evaluate_batch` clips, and not of those which fill the batch up, in all processes."""
  evaluate = make_evaluation(
    stage.apply, stage.process, times=config.evaluate_times, conditioning=stage.conditioning
  )
  of_clips = lambda *inputs: evaluate(*inputs)[: config.evaluate_batch]
  return jax.jit(of_clips, out_shardings=replicated(mesh))


def videos_at_once(config: ConfigDict, mesh: jax.sharding.Mesh) -> int:
  """How many videos are made together: the sample prompts, and more where devices would idle."""
  return filled(len(config.sample_prompts), mesh)


def on_mesh(generate: Generate, count: int, mesh: jax.sharding.Mesh) -> Make:
  """Returns `make(params, cond, keys) -> videos`: 1 to `count` of them, by all devices.

  `count` divides over the mesh.  Fewer are filled up with more of the same, which are dropped.  It
  is to be called in all processes, with the same condition and keys, and all get all videos.
  """
  fill = lambda tree: jax.tree.map(lambda x: x[jnp.arange(count) % len(x)], tree)
  spread = jax.jit(fill, out_shardings=over_batch(mesh))

  def make(params, cond, keys):
    if len(keys) > count:
      raise UserError(f'Got {len(keys)} videos to make at once; allowed are 1 to {count}.')
    return on_host(generate(params, *spread((cond, keys))), len(keys), mesh)

  return make


def on_host(tree, count: int, mesh: jax.sharding.Mesh):
  """The first rows of arrays that are spread over a mesh, in all processes, which call this
  together."""
  first = lambda tree: jax.tree.map(lambda x: x[:count], tree)
  return jax.tree.map(np.asarray, jax.jit(first, out_shardings=replicated(mesh))(tree))


def lowered_between(plan: Plan, key: jax.ShapeDtypeStruct) -> dict[str, jax.stages.Lowered]:
  """The programs that run between steps, by name, to be compiled for the mesh of the plan."""
  config, mesh, where = plan.config, plan.mesh, over_batch(plan.mesh)
  params = merge(plan.state.ema, cast_frozen(plan))
  clips = batch_shapes(config, filled(config.evaluate_batch, mesh))
  count = videos_at_once(config, mesh)
  keys = jax.ShapeDtypeStruct((count,), key.dtype, sharding=where)
  cond = with_sharding(condition_shapes(config, count), where)
  with jax.set_mesh(mesh):
    return {
      'evaluation': make_loss(config, plan.stage, mesh).lower(
        params, with_sharding(clips, where), key, jax.ShapeDtypeStruct((), jnp.int32)
      ),
      'samples': plan.stage.generate.lower(params, cond, keys),
    }
