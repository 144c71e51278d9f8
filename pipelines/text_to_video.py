"""Prompt in, video out."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from core.condition import Condition
from core.given import Given
from core.sharding import make_mesh, over_batch, replicated
from core.typing import Keys, Params, Video
from diffusion.denoiser import guided, network
from diffusion.process import Process
from diffusion.sampling import Generate, Source, make_sample, video_keys
from text.encoder import Encoder


def make_text_to_video(
  apply: Callable,
  process: Process,
  shape: tuple[int, int, int, int],
  *,
  guidance: float,
  **sampling,
) -> Generate:
  """Returns the jitted `generate(params, cond, keys, given, source) -> video`, one for each key.

  apply: the network, `apply(params, xt, t, cond)`.
  shape: t h w c of a video.
  guidance: the scale of classifier-free guidance; 1 is none.
  sampling: see `make_sample`, whose errors are raised.

  Videos are in [-1, 1].  What is `given`, and the `source` from which sampling begins, are None
  where there is none.
  """
  sample = make_sample(process, **sampling)

  @jax.jit
  def generate(
    params: Params,
    cond: Condition,
    keys: Keys,
    given: Given | None = None,
    source: Source | None = None,
  ) -> Video:
    if given is not None:
      cond = cond.replace(frames=given.channels)
    denoiser = guided(network(apply, params, process), guidance)
    return sample(denoiser, cond, shape, keys, given, source)

  return generate


def clip_mesh(batch: int, devices: Sequence[jax.Device]) -> jax.sharding.Mesh:
  """The devices for so many videos at once: as many as divide them get some each, and the others
  share every video with them."""
  return make_mesh((('data', math.gcd(batch, len(devices))), ('time', -1)), devices)


def in_batches(
  generate: Generate,
  params: Params,
  encode: Encoder,
  *,
  batch: int,
  seed: int,
  given: Given | None = None,
  source: Source | None = None,
) -> Callable[[Sequence[str], Sequence[int]], Video]:
  """Returns `make(prompts, numbers) -> video`, compiled: up to `batch` videos, each by its number.

  They are spread over all devices, as `clip_mesh` says.  A smaller batch is filled up and costs as
  much as a full one.  What is `given`, and their `source`, of a batch of one, are the same for all.
  """
  mesh = clip_mesh(batch, jax.devices())
  params = jax.device_put(params, replicated(mesh))
  place = lambda a: (
    jax.device_put(jnp.repeat(a, batch, axis=0), over_batch(mesh))
    if a.ndim
    else jax.device_put(a, replicated(mesh))
  )
  given, source = jax.tree.map(place, (given, source))

  def inputs(prompts, numbers):
    spare = batch - len(prompts)
    cond = Condition(*map(jnp.asarray, encode([*prompts, *prompts[:1] * spare])))
    keys = video_keys(seed, jnp.array([*numbers, *numbers[:1] * spare]))
    return params, *jax.device_put((cond, keys), over_batch(mesh)), given, source

  with jax.set_mesh(mesh):
    compiled = generate.lower(*inputs([''], [0])).compile()

  def make(prompts, numbers):
    video = jax.block_until_ready(compiled(*inputs(prompts, numbers)))
    jax.effects_barrier()  # no step is told of after this
    return video[: len(prompts)]

  return make
