"""Sampling of the base model: prompts in, videos out."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from core.condition import Condition
from core.sharding import make_mesh, over_batch, replicated
from core.typing import Keys, Params, Video
from diffusion.denoiser import guided, network
from diffusion.process import Process
from diffusion.sampling import Generate, InitialVideo, make_sample, video_keys
from text.encoder import Encoder


def make_text_to_video(
  apply: Callable,
  process: Process,
  shape: tuple[int, int, int, int],
  *,
  guidance: float,
  **sampling,
) -> Generate:
  """Returns the jitted `generate(params, cond, keys, initial_video) -> video`, one for each key.

  apply: the network, `apply(params, xt, t, cond)`.
  shape: t h w c of a video.
  guidance: the scale of classifier-free guidance; 1 is none.
  sampling: the arguments of `make_sample`, whose errors are raised.

  Videos are in [-1, 1].  The `initial_video` from which sampling starts is None by default.
  """
  sample = make_sample(process, **sampling)

  @jax.jit
  def generate(
    params: Params, cond: Condition, keys: Keys, initial_video: InitialVideo | None = None
  ) -> Video:
    denoiser = guided(network(apply, params, process), guidance)
    return sample(denoiser, cond, shape, keys, initial_video)

  return generate


def clip_mesh(batch: int, devices: Sequence[jax.Device]) -> jax.sharding.Mesh:
  """The devices for a batch of videos: the largest number that divides the batch and the devices
  shares out the batch, and the other devices share each of its videos."""
  return make_mesh((('data', math.gcd(batch, len(devices))), ('time', -1)), devices)


def compile_text_to_video(
  generate: Generate,
  params: Params,
  encode: Encoder,
  *,
  batch: int,
  seed: int,
  condition: Condition = Condition(),  # noqa: B008
  initial_video: InitialVideo | None = None,
) -> Callable[[Sequence[str], Sequence[int]], Video]:
  """Returns `generate_batch(prompts, numbers) -> videos`, compiled.

  It generates up to `batch` videos, each from its prompt and its number, which seeds its noise.
  They are sharded over all devices, as `clip_mesh` says.  A smaller batch is filled up and costs as
  much as a full one.

  condition: all but the text, in a batch of one, for all videos.
  initial_video: that of all videos, in a batch of one.
  """
  mesh = clip_mesh(batch, jax.devices())
  params = jax.device_put(params, replicated(mesh))
  place = lambda a: (
    jax.device_put(jnp.repeat(a, batch, axis=0), over_batch(mesh))
    if a.ndim
    else jax.device_put(a, replicated(mesh))
  )
  condition, initial_video = jax.tree.map(place, (condition, initial_video))

  def inputs(prompts, numbers):
    spare = batch - len(prompts)
    text, mask = encode([*prompts, *prompts[:1] * spare])
    keys = video_keys(seed, jnp.array([*numbers, *numbers[:1] * spare]))
    text, mask, keys = jax.device_put(
      (jnp.asarray(text), jnp.asarray(mask), keys), over_batch(mesh)
    )
    return params, condition.replace(text=text, text_mask=mask), keys, initial_video

  with jax.set_mesh(mesh):
    compiled = generate.lower(*inputs([''], [0])).compile()

  def generate_batch(prompts, numbers):
    video = jax.block_until_ready(compiled(*inputs(prompts, numbers)))
    jax.effects_barrier()  # no step is reported after this
    return video[: len(prompts)]

  return generate_batch
