"""What every pipeline does: noise in, a sampler over times, a video out."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from core.condition import Condition
from core.given import Given
from core.typing import Keys, Video
from diffusion.denoiser import Denoiser, clipped, dynamically_thresholded, keeping
from diffusion.process import Process
from diffusion.sampler import OnStep, ddim, ddpm, dpmpp_2m, even_angles, leading, times

SAMPLERS = {
  'ddim': ddim,
  'ddpm': ddpm,
  'ddpm_learned': functools.partial(ddpm, variance='learned'),
  'ddpm_small': functools.partial(ddpm, variance='small'),
  'dpmpp_2m': dpmpp_2m,
}
SPACINGS = {
  'even_angles': even_angles,
  'even_times': lambda process, steps, start: times(steps, start),
  'leading': lambda process, steps, start: leading(steps, start),
}
THRESHOLDS = {
  'dynamic': dynamically_thresholded,
  # DeepFloyd IF's, of its first stage.
  'dynamic_if': functools.partial(dynamically_thresholded, quantile=0.95, cap=1.5),
  'static': clipped,
}

# (params, cond, keys, given, source), the last two None where there are none -> video
Generate = Callable[..., Video]
Sample = Callable[..., Video]


@flax.struct.dataclass
class Source:
  """A video to be made into another (SDEdit, Meng et al., 2022)."""

  video: Any  # b t h w c in [-1, 1]
  strength: Any  # the time in [0, 1] at which sampling begins, with the video noised up to there


def make_sample(
  process: Process,
  *,
  sampler: str,
  steps: int,
  threshold: str = 'static',
  spacing: str = 'even_times',
  on_step: OnStep | None = None,
) -> Sample:
  """Returns `sample(denoiser, cond, shape, keys, given, source) -> video`, one for each key.

  sampler, threshold of x0, spacing of the steps in time: one of `SAMPLERS`, `THRESHOLDS`,
    `SPACINGS`; others are a ValueError, and so are fewer steps than 1.
  on_step: called on the host with the number of each step as it is done.

  Videos are in [-1, 1], and t h w c is the `shape` of one.  What is `given`, if it is not None, is
  kept at every step, and to the last bit in the end.  With a `source`, all steps are taken between
  its strength and 0.

  All noise of a video is drawn from its own key, so that it is the same in any batch.
  """
  run = _choice('sampler', sampler, SAMPLERS)
  threshold = _choice('threshold', threshold, THRESHOLDS)
  spacing = _choice('spacing', spacing, SPACINGS)
  if steps < 1:
    raise ValueError(f'Got {steps} steps; allowed is 1 or more.')

  def sample(
    denoiser: Denoiser,
    cond: Condition,
    shape: tuple[int, int, int, int],
    keys: Keys,
    given: Given | None = None,
    source: Source | None = None,
  ) -> Video:
    first, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    xt = jax.vmap(lambda key: jax.random.normal(key, shape))(first)
    start = 1.0
    if source is not None:
      start = source.strength
      xt = process.corrupt(source.video, jnp.full(len(xt), start), xt)
    denoiser = threshold(denoiser)
    if given is not None:
      denoiser = keeping(denoiser, given)
    schedule = spacing(process, steps, start)
    made = run(denoiser, cond, xt, process, schedule, keys=keys, on_step=on_step)
    return made if given is None else given.kept(made)

  return sample


def video_keys(seed: int, indices: Int[Array, ' b']) -> Keys:
  """The keys of the videos with these numbers, the same whichever others are asked for."""
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(indices)


def _choice(what: str, name: str, choices: Mapping[str, Callable]) -> Callable:
  if name not in choices:
    raise ValueError(f'Unknown {what}: {name!r}.  Allowed: {", ".join(sorted(choices))}.')
  return choices[name]
