"""A network that is sampled: its devices, its parameters, and batches of videos."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from core import compiler
from core.condition import Condition
from core.errors import UserError
from core.params import cast_kernels
from core.sharding import AXES, fsdp, over_batch, replicated
from core.typing import Float, Keys, Params, Video
from diffusion.sampler import OnStep
from diffusion.sampling import InitialVideo
from pipelines.cascade import to_host, window_mesh
from pipelines.stages import open_stage
from pipelines.text_to_video import clip_mesh
from training.stage import Stage

Pixels = UInt8[np.ndarray, 't h w 3']


@dataclasses.dataclass(frozen=True)
class Model:
  """A network that is sampled on some devices."""

  config: ConfigDict
  stage: Stage
  batch: int  # videos that are generated together; fewer are filled up, and cost as much
  sharding: jax.sharding.NamedSharding  # of the conditions of a batch
  params: Params | None = dataclasses.field(default=None, repr=False)  # None until they are loaded

  @classmethod
  def open(cls, config: ConfigDict, batch: int, on_step: OnStep | None = None) -> 'Model':
    """The model of a config on all devices, without parameters.

    on_step: called when a step of sampling is done: see `make_sample`.
    """
    mesh = clip_mesh(batch, jax.devices())
    return cls(config, open_stage(config, on_step), batch, over_batch(mesh))

  @classmethod
  def open_super_resolution(cls, config: ConfigDict, on_step: OnStep | None = None) -> 'Model':
    """The model of super-resolution, without parameters.  A video fills the devices, over which its
    windows are sharded; so there is no batch."""
    s = config.sampling
    mesh = window_mesh(config.data.frames, s.window, s.overlap, jax.devices())
    return cls(config, open_stage(config, on_step, mesh), 1, replicated(mesh))

  def param_shardings(self, shapes: Params) -> Params:
    """How parameters are sharded: over all devices, of all processes, whatever they share of the
    videos.  The network gathers them where it uses them."""
    return fsdp(shapes, self.sharding.mesh, self.config.shard_above, over=AXES)

  def with_params(self, params: Params) -> 'Model':
    """The model with parameters from a checkpoint, whose kernels are cast to the dtype of products,
    sharded over all devices."""
    params = cast_kernels(params, self.config.model.dtype)
    return self.with_sharded_params(jax.device_put(params, self.param_shardings(params)))

  def with_sharded_params(self, params: Params) -> 'Model':
    """The model with parameters of a run, which stay as they are on the mesh of the run."""
    return dataclasses.replace(self, params=params)

  def encode(
    self,
    prompts: Sequence[str],
    condition: Condition = Condition(),  # noqa: B008
  ) -> Condition:
    """The condition with the embedded prompts as its text."""
    text, mask = map(jnp.asarray, self.stage.encode(prompts))
    return condition.replace(text=text, text_mask=mask)

  def place(self, tree):
    """The arrays of a tree, each repeated or filled up to a batch, on the devices."""
    return jax.tree.map(self._place, tree)

  def compile(self, cond: Condition, keys: Keys, initial_video: InitialVideo | None = None):
    """The program that generates a batch, and its inputs; it is compiled once for their shapes."""
    options = () if initial_video is None else (initial_video,)
    inputs = (self.params, *self.place((cond, keys, *options)))
    mesh = self.sharding.mesh
    with jax.set_mesh(mesh):
      return self.stage.generate.lower(*inputs).compile(compiler.options(mesh)), inputs

  def generate(
    self, cond: Condition, keys: Keys, initial_video: InitialVideo | None = None
  ) -> Iterator[Float['t h w c']]:
    """A video for each key, 1 to `batch` of them, in [-1, 1] and replicated on every device.

    A condition or an initial video in a batch of one is that of all videos.  If there are several
    processes, all call this together, with the same inputs.
    """
    if len(keys) > self.batch:
      raise UserError(f'Got {len(keys)} videos to make at once; allowed are 1 to {self.batch}.')
    program, inputs = self.compile(cond, keys, initial_video)
    videos = jax.block_until_ready(program(*inputs))
    jax.effects_barrier()  # no step is reported after this
    row = _row(self._replicated)
    return (row(videos, i) for i in range(len(keys)))

  def generate_by(self, params: Params, cond: Condition, keys: Keys) -> list[Pixels]:
    """The pixels of the videos that these parameters of a run generate, in all processes."""
    return [to_host(video) for video in self.with_sharded_params(params).generate(cond, keys)]

  @property
  def _replicated(self) -> jax.sharding.NamedSharding:
    return replicated(self.sharding.mesh)

  def _place(self, x):
    if not hasattr(x, 'ndim'):
      x = jnp.asarray(x)
    if not x.ndim:
      return jax.device_put(x, self._replicated)
    if len(x) == self.batch and getattr(x, 'sharding', None) == self.sharding:
      return x
    return _filled(self.batch, self.sharding)(x)


@functools.cache
def _filled(batch: int, sharding: jax.sharding.Sharding) -> Callable:
  """Fills an array up to a batch with copies of its rows.  All processes get the same array."""
  return jax.jit(lambda x: x[jnp.arange(batch) % len(x)], out_shardings=sharding)


@functools.cache
def _row(sharding: jax.sharding.Sharding) -> Callable[[Video, int], Float['t h w c']]:
  """One video of a batch."""
  return jax.jit(lambda videos, i: videos[i], out_shardings=sharding)
