"""Prompt in, video out."""

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from core.condition import Condition
from core.typing import Keys, Params, Video
from diffusion.denoiser import clipped, dynamically_thresholded, guided, network
from diffusion.process import Process
from diffusion.sampler import OnStep, ddim, ddpm, dpmpp_2m, even_angles, times
from text.hashed import Encoder
from training.sharding import make_mesh, over_batch, replicated

Generate = Callable[[Params, Condition, Keys], Video]

SAMPLERS = {'ddim': ddim, 'ddpm': ddpm, 'dpmpp_2m': dpmpp_2m}
SPACINGS = {'even_angles': even_angles, 'even_times': lambda process, steps: times(steps)}
THRESHOLDS = {'dynamic': dynamically_thresholded, 'static': clipped}


def make_text_to_video(
  apply: Callable,
  process: Process,
  shape: tuple[int, int, int, int],
  *,
  sampler: str,
  steps: int,
  guidance: float,
  threshold: str = 'static',
  spacing: str = 'even_times',
  on_step: OnStep | None = None,
) -> Generate:
  """Returns the jitted `generate(params, cond, keys) -> video` in [-1, 1], one video for each key.

  apply: the network, `apply(params, xt, t, cond)`.
  shape: t h w c of a video.
  sampler, threshold of x0, spacing of the steps in time: one of `SAMPLERS`, `THRESHOLDS`,
    `SPACINGS`; others are a ValueError, and so are fewer steps than 1.
  guidance: the scale of classifier-free guidance; 1 is none.
  on_step: called on the host with the number of each step as it is done.

  All noise of a video is drawn from its own key, so that it is the same in any batch.
  """
  sample = _choice('sampler', sampler, SAMPLERS)
  threshold = _choice('threshold', threshold, THRESHOLDS)
  spacing = _choice('spacing', spacing, SPACINGS)
  if steps < 1:
    raise ValueError(f'Got {steps} steps; allowed is 1 or more.')

  @jax.jit
  def generate(params: Params, cond: Condition, keys: Keys) -> Video:
    denoiser = threshold(guided(network(apply, params, process), guidance))
    first, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(first)
    schedule = spacing(process, steps)
    return sample(denoiser, cond, noise, process, schedule, keys=keys, on_step=on_step)

  return generate


def video_keys(seed: int, indices: Int[Array, 'b']) -> Keys:
  """The keys of the videos with these numbers, the same whichever others are asked for."""
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(indices)


def in_batches(
  generate: Generate, params: Params, encode: Encoder, *, batch: int, seed: int
) -> Callable[[Sequence[str], Sequence[int]], Float[np.ndarray, 'b t h w c']]:
  """Returns `make(prompts, numbers) -> video`, compiled: up to `batch` videos, each by its number.

  They are spread over as many devices as divide `batch`.  A smaller batch is filled up and costs
  as much as a full one.
  """
  mesh = make_mesh(
    (('data', -1), ('fsdp', 1)), jax.devices()[: math.gcd(batch, jax.device_count())]
  )
  params = jax.device_put(params, replicated(mesh))

  def inputs(prompts, numbers):
    spare = batch - len(prompts)
    cond = Condition(*map(jnp.asarray, encode([*prompts, *prompts[:1] * spare])))
    keys = video_keys(seed, jnp.array([*numbers, *numbers[:1] * spare]))
    return params, *jax.device_put((cond, keys), over_batch(mesh))

  compiled = generate.lower(*inputs([''], [0])).compile()

  def make(prompts, numbers):
    video = np.asarray(compiled(*inputs(prompts, numbers)))
    jax.effects_barrier()  # no step is told of after this
    return video[: len(prompts)]

  return make


def _choice(what: str, name: str, choices: Mapping[str, Callable]) -> Callable:
  if name not in choices:
    raise ValueError(f'Unknown {what}: {name!r}.  Allowed: {", ".join(sorted(choices))}.')
  return choices[name]
