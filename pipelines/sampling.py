"""What every pipeline does: noise in, a sampler over times, a video out."""

from collections.abc import Callable, Mapping

import jax
from jaxtyping import Array, Int

from core.condition import Condition
from core.typing import Keys, Params, Video
from diffusion.denoiser import Denoiser, clipped, dynamically_thresholded
from diffusion.process import Process
from diffusion.sampler import OnStep, ddim, ddpm, dpmpp_2m, even_angles, times

SAMPLERS = {'ddim': ddim, 'ddpm': ddpm, 'dpmpp_2m': dpmpp_2m}
SPACINGS = {'even_angles': even_angles, 'even_times': lambda process, steps: times(steps)}
THRESHOLDS = {'dynamic': dynamically_thresholded, 'static': clipped}

Generate = Callable[[Params, Condition, Keys], Video]
Sample = Callable[[Denoiser, Condition, tuple[int, ...], Keys], Video]


def make_sample(
  process: Process,
  *,
  sampler: str,
  steps: int,
  threshold: str = 'static',
  spacing: str = 'even_times',
  on_step: OnStep | None = None,
) -> Sample:
  """Returns `sample(denoiser, cond, shape, keys) -> video` in [-1, 1], one for each key.

  sampler, threshold of x0, spacing of the steps in time: one of `SAMPLERS`, `THRESHOLDS`,
    `SPACINGS`; others are a ValueError, and so are fewer steps than 1.
  shape: t h w c of a video.
  on_step: called on the host with the number of each step as it is done.

  All noise of a video is drawn from its own key, so that it is the same in any batch.
  """
  run = _choice('sampler', sampler, SAMPLERS)
  threshold = _choice('threshold', threshold, THRESHOLDS)
  spacing = _choice('spacing', spacing, SPACINGS)
  if steps < 1:
    raise ValueError(f'Got {steps} steps; allowed is 1 or more.')

  def sample(denoiser, cond, shape, keys):
    first, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(first)
    schedule = spacing(process, steps)
    return run(threshold(denoiser), cond, noise, process, schedule, keys=keys, on_step=on_step)

  return sample


def video_keys(seed: int, indices: Int[Array, 'b']) -> Keys:
  """The keys of the videos with these numbers, the same whichever others are asked for."""
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(indices)


def _choice(what: str, name: str, choices: Mapping[str, Callable]) -> Callable:
  if name not in choices:
    raise ValueError(f'Unknown {what}: {name!r}.  Allowed: {", ".join(sorted(choices))}.')
  return choices[name]
