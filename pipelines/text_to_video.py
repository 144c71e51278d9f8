"""Sampling of the base model: prompts in, videos out."""

import math
from collections.abc import Callable, Sequence

import jax

from core.condition import Condition
from core.sharding import make_mesh
from core.typing import Keys, Params, Video
from diffusion.denoiser import guided, network
from diffusion.process import Process
from diffusion.sampling import Generate, InitialVideo, make_sample


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
