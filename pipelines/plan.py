"""A run of training before anything is computed: the shapes of its state, and where they live."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from core.condition import Condition
from core.params import cast_kernels, partition
from core.sharding import fsdp, over_all, over_batch, replicated, require_batch, reshard
from core.typing import Key, Params
from pipelines.stage import Stage, open_stage
from stunet.inflate import inflate
from training import flops
from training.optimizer import make_optimizer
from training.state import State
from training.step import draw, make_step


@dataclasses.dataclass(frozen=True)
class Plan:
  """All of it is made of a config and a mesh; arrays are `jax.ShapeDtypeStruct` with a sharding."""

  config: ConfigDict
  mesh: jax.sharding.Mesh
  stage: Stage
  tx: optax.GradientTransformation
  params: Params  # trained and frozen
  state: State
  frozen: Params
  batch: dict


def make_plan(config: ConfigDict, mesh: jax.sharding.Mesh) -> Plan:
  """The plan of a run.  ValueError where a part of the config is wrong."""
  require_batch(config.loader.batch, mesh, config.accumulate)
  stage, tx = open_stage(config), make_optimizer(config.steps, **config.optim)
  place = lambda tree: placed(tree, fsdp(tree, mesh, config.shard_above))
  params = parameter_shapes(config, stage)
  trained, frozen = partition(params, config.trainable)
  state = jax.eval_shape(lambda trained: State.create(trained, tx), trained)
  batch = with_sharding(batch_shapes(config, config.loader.batch), over_batch(mesh))
  # What each device says of stopping.
  batch['stop'] = jax.ShapeDtypeStruct((mesh.size,), bool, sharding=over_all(mesh))
  return Plan(config, mesh, stage, tx, place(params), place(state), place(frozen), batch)


def initialise(plan: Plan, image: Params, key: Key) -> tuple[State, Params]:
  """The state before the first step, and frozen parameters, sharded: new ones, with those of
  `image`, which are on the devices of the mesh, in their places unless it is empty."""
  init = lambda key: _init(plan.config, plan.stage, key)
  params = jax.jit(init, out_shardings=_shardings(plan.params))(key)
  if image:
    params = jax.tree.map(reshard, inflate(image, params), _shardings(plan.params))

  def begin(params):
    trained, frozen = partition(params, plan.config.trainable)
    return State.create(trained, plan.tx), frozen

  return jax.jit(begin, out_shardings=(_shardings(plan.state), _shardings(plan.frozen)))(params)


def lowered_step(plan: Plan, key: jax.Array | jax.ShapeDtypeStruct):
  """The step, to be compiled for the mesh of the plan, and its operations but for recomputation.

  It takes the frozen parameters as `cast_frozen` gives their shapes.
  """
  config = plan.config
  options = {k: config[k] for k in ('steps', 'ema_decay', 'drop_text', 'accumulate', 'high_noise')}
  options |= {'spike': config.guard.spike}
  frozen = cast_frozen(plan)

  def trace(stage):
    step = jax.jit(
      make_step(stage.apply, stage.process, plan.tx, conditioning=stage.conditioning, **options),
      donate_argnums=0,
      out_shardings=(_shardings(plan.state), replicated(plan.mesh)),
    )
    with jax.set_mesh(plan.mesh):
      return step.trace(plan.state, frozen, plan.batch, key)

  traced = trace(plan.stage)
  once = traced
  if config.model.remat:
    plain = config.copy_and_resolve_references()
    plain.model.remat = False
    once = trace(open_stage(plain))
  return traced.lower(), flops.count(once.jaxpr.jaxpr)


def cast_frozen(plan: Plan) -> Params:
  """The shapes of the frozen parameters, whose kernels are cast once for all steps."""
  frozen = jax.eval_shape(lambda frozen: cast_kernels(frozen, plan.config.model.dtype), plan.frozen)
  return placed(frozen, _shardings(plan.frozen))


def parameter_shapes(config: ConfigDict, stage: Stage) -> Params:
  """The shapes of all parameters of the stage of a config."""
  return jax.eval_shape(lambda key: _init(config, stage, key), jax.random.key(0))


def _init(config, stage, key):
  one = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch_shapes(config, 1))
  x0, t, _, cond = draw(one, key, 0.0, conditioning=stage.conditioning)
  return stage.init(key, x0, t, cond)


def batch_shapes(config: ConfigDict, b: int) -> dict:
  """The shapes of a batch of so many clips."""
  d = config.data
  n, width = config.text.tokens, config.text.width
  shapes = {'video': ((d.frames, d.size, d.size, 3), jnp.uint8)}
  shapes |= {'text': ((n, width), jnp.float32), 'mask': ((n,), bool)}
  if config.masks:
    shapes['known'] = ((d.frames, d.size, d.size), bool)
  return {k: jax.ShapeDtypeStruct((b, *shape), dtype) for k, (shape, dtype) in shapes.items()}


def condition_shapes(config: ConfigDict, b: int) -> Condition:
  """The shapes of what so many videos are sampled of."""
  d, text = config.data, config.text
  of = lambda shape, dtype: jax.ShapeDtypeStruct((b, *shape), dtype)
  cond = Condition(of((text.tokens, text.width), jnp.float32), of((text.tokens,), bool))
  if config.degrade:
    side = d.size // config.degrade.factor
    cond = cond.replace(frames=of((d.frames, side, side, 3), jnp.float32))
  return cond


def _shardings(tree):
  return jax.tree.map(lambda x: x.sharding, tree)


def placed(tree, shardings):
  """The shapes of a tree, at home in a tree of shardings."""
  return jax.tree.map(sharded_shape, tree, shardings)


def with_sharding(tree, sharding: jax.sharding.Sharding):
  """The shapes of a tree, all of them in one sharding."""
  return jax.tree.map(lambda x: sharded_shape(x, sharding), tree)


def sharded_shape(x, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
  """The shape of an array that is there."""
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
