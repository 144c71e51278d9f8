"""A run of training before anything is computed: the shapes of its arrays, and their shardings."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from core import compiler
from core.condition import Condition
from core.errors import UserError
from core.params import TEACHER, cast_kernels, merge, names, nest, partition
from core.sharding import filled, fsdp, over_all, over_batch, replicated, require_batch, reshard
from core.typing import Key, Params
from data import buckets
from diffusion import loss
from stunet.inflate import inflate
from stunet.unet import STUNet
from training import flops
from training.optimizer import make_optimizer
from training.samples import videos_at_once
from training.stage import Shapes, Stage, with_batch
from training.state import State
from training.step import draw, make_step
from training.validation import make_losses

OpenStage = Callable[[ConfigDict], Stage]  # pipelines.stages.open_stage


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a config and a mesh decide.  Arrays are `jax.ShapeDtypeStruct` with a sharding."""

  config: ConfigDict
  mesh: jax.sharding.Mesh
  stage: Stage
  plain: Stage  # the same without rematerialisation: its operations count as those of the model
  tx: optax.GradientTransformation
  params: Params  # trained and frozen
  state: State
  frozen: Params
  examples: Sequence[Shapes]  # of each bucket, or of the only one

  @property
  def largest(self) -> Shapes:
    """The arrays of an example of the bucket whose videos have the most pixels."""
    return max(self.examples, key=lambda shapes: shapes['video'].size)


def make_plan(config: ConfigDict, mesh: jax.sharding.Mesh, open_stage: OpenStage) -> Plan:
  """The plan of a run.  ValueError if a part of the config is wrong."""
  _require_frames(config)
  require_batch(config.loader.batch, mesh, config.accumulate)
  stage = plain = open_stage(config)
  if config.model.remat:
    without_remat = config.copy_and_resolve_references()
    without_remat.model.remat = False
    plain = open_stage(without_remat)
  tx = make_optimizer(config.steps, **config.optim)
  open_step(config, stage, tx)  # refuses what is wrong in its options
  shard = lambda tree: with_shardings(tree, fsdp(tree, mesh, config.shard_above))
  params = parameter_shapes(stage)
  trained, frozen = partition(params, config.trainable)
  state = jax.eval_shape(lambda trained: State.create(trained, tx), trained)
  examples = [open_stage(c).batch for c in of_buckets(config)] or [stage.batch]
  return Plan(config, mesh, stage, plain, tx, shard(params), shard(state), shard(frozen), examples)


def _require_frames(config: ConfigDict) -> None:
  """UserError if an image model would be trained on clips of several frames."""
  frames = max([c.data.frames for c in of_buckets(config)], default=config.data.frames)
  if frames > 1 and not STUNet(**config.model).temporal:
    key = 'buckets' if config.data.get('buckets') else 'frames'
    raise UserError(
      f'Got clips of {frames} frames (data.{key}={config.data[key]}) for an image model; allowed '
      'is 1 frame, which is read from a clip of any length.'
    )


def of_buckets(config: ConfigDict) -> Iterator[ConfigDict]:
  """Yields for each bucket a config without buckets whose clips have its shape."""
  d = config.data
  shapes = buckets.shapes(d.buckets, size=d.size, frames=d.frames) if d.get('buckets') else ()
  for frames, *size in shapes:
    of_bucket = config.copy_and_resolve_references()
    with of_bucket.ignore_type():  # `size` may be one number
      of_bucket.data.update(frames=frames, size=tuple(size), buckets=())
    yield of_bucket


def initialise(plan: Plan, parent: Params, key: Key) -> tuple[State, Params]:
  """The state before the first step and the frozen parameters, sharded.

  parent: the parameters of the model from which this one is inflated, on the devices of the mesh;
    if it is empty, all parameters are new.
  """
  params = _with_new(plan, parent, key)
  if parent:
    params = jax.tree.map(reshard, inflate(parent, params), _shardings(plan.params))

  def split(params):
    trained, frozen = partition(params, plan.config.trainable)
    return State.create(trained, plan.tx), frozen

  return jax.jit(split, out_shardings=(_shardings(plan.state), _shardings(plan.frozen)))(params)


def _with_new(plan: Plan, parent: Params, key: Key) -> Params:
  """The parameters that a parent lacks, and the shapes of the others, which are not computed."""
  known = names(parent).keys() | {f'{TEACHER}/{name}' for name in names(parent)}
  all_shapes = names(plan.params)
  new = all_shapes.keys() - known

  def init(key):
    params = names(_init(plan.stage, key))
    return {name: params[name] for name in new}

  shardings = {name: all_shapes[name].sharding for name in new}
  return nest(all_shapes | jax.jit(init, out_shardings=shardings)(key))


def open_step(config: ConfigDict, stage: Stage, tx: optax.GradientTransformation):
  """The step of a config: see `make_step`."""
  return make_step(
    stage.apply,
    stage.process,
    tx,
    steps=config.steps,
    ema_decay=config.ema_decay,
    drop_text=config.drop_text,
    accumulate=config.accumulate,
    times=stage.times or loss.times(stage.process, config.high_noise, **config.log_snr),
    target=stage.target,
    weight=loss.weights(stage.process, **config.loss),
    less_noisy=loss.less_noisy(stage.process, config.less_noisy),
    spike=config.guard.spike,
    make_condition=stage.make_condition,
  )


def training_batch(plan: Plan, example: Shapes) -> dict[str, jax.ShapeDtypeStruct]:
  """The batch of the step of a plan, of such examples."""
  shapes = with_batch(example, plan.config.loader.batch)
  # One bool of each device: whether its process got a signal to stop.
  stop = jax.ShapeDtypeStruct((plan.mesh.size,), bool, sharding=over_all(plan.mesh))
  return with_sharding(shapes, over_batch(plan.mesh)) | {'stop': stop}


def lower_step(plan: Plan, key: jax.Array | jax.ShapeDtypeStruct, example: Shapes):
  """The lowered step on such examples, and its floating-point operations without
  rematerialisation.

  The step takes the frozen parameters in the shapes that `cast_frozen` returns.
  """
  config, batch = plan.config, training_batch(plan, example)
  frozen = cast_frozen(plan)

  def trace(stage):
    step = jax.jit(
      open_step(config, stage, plan.tx),
      donate_argnums=0,
      out_shardings=(_shardings(plan.state), replicated(plan.mesh)),
    )
    with jax.set_mesh(plan.mesh):
      return step.trace(plan.state, frozen, batch, key)

  traced = trace(plan.stage)
  plain = traced if plan.plain is plan.stage else trace(plan.plain)
  return traced.lower(), flops.count(plain.jaxpr.jaxpr)


def compile_steps(
  plan: Plan, key: jax.Array, shares: Mapping[int, Fraction]
) -> tuple[dict[tuple[int, ...], jax.stages.Compiled], float]:
  """The compiled step of each bucket, by the shape `t h w c` of its videos, and the operations of a
  step on average.

  shares: of each bucket that has examples, the share of the batches.
  """
  programs, operations = {}, 0.0
  for bucket, share in shares.items():
    lowered, count = lower_step(plan, key, plan.examples[bucket])
    programs[plan.examples[bucket]['video'].shape] = lowered.compile(compiler.options(plan.mesh))
    operations += float(share) * count
  return programs, operations


def lower_between_steps(plan: Plan, key: jax.ShapeDtypeStruct) -> dict[str, jax.stages.Lowered]:
  """The lowered programs that run between steps, by name, for the mesh of the plan."""
  config, mesh, stage, sharding = plan.config, plan.mesh, plan.stage, over_batch(plan.mesh)
  params = merge(plan.state.ema, cast_frozen(plan))
  clips = with_batch(plan.largest, filled(config.evaluate_batch, mesh))
  count = videos_at_once(config, mesh)
  keys = jax.ShapeDtypeStruct((count,), key.dtype, sharding=sharding)
  cond = with_sharding(Condition(**with_batch(stage.required_condition, count)), sharding)
  with jax.set_mesh(mesh):
    return {
      'evaluation': make_losses(config, stage, mesh).lower(
        params, with_sharding(clips, sharding), key, jax.ShapeDtypeStruct((), jnp.int32)
      ),
      'samples': stage.generate.lower(params, cond, keys),
    }


def cast_frozen(plan: Plan) -> Params:
  """The shapes of the frozen parameters, whose kernels are cast once for all steps."""
  frozen = jax.eval_shape(lambda frozen: cast_kernels(frozen, plan.config.model.dtype), plan.frozen)
  return with_shardings(frozen, _shardings(plan.frozen))


def parameter_shapes(stage: Stage) -> Params:
  """The shapes of all parameters of a stage."""
  return jax.eval_shape(lambda key: _init(stage, key), jax.random.key(0))


def _init(stage, key):
  one = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), with_batch(stage.batch, 1))
  x0, t, _, _, cond = draw(one, key, 0.0, make_condition=stage.make_condition)
  return stage.init(key, x0, t, cond)


def _shardings(tree):
  return jax.tree.map(lambda x: x.sharding, tree)


def with_shardings(tree, shardings):
  """The shapes of a tree, each with its own sharding."""
  return jax.tree.map(sharded_shape, tree, shardings)


def with_sharding(tree, sharding: jax.sharding.Sharding):
  """The shapes of a tree, all with one sharding."""
  return jax.tree.map(lambda x: sharded_shape(x, sharding), tree)


def sharded_shape(x, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
  """The shape of an array, with a sharding."""
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
