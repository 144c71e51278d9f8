"""What every pipeline does: noise in, a sampler over times, a video out."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from core.condition import Condition
from core.errors import UserError
from core.given import Given
from core.typing import Keys, Video
from diffusion.denoiser import Denoiser, clipped, dynamically_thresholded, keeping
from diffusion.process import Process
from diffusion.sampler import OnStep, ddim, ddpm, dpmpp_2m, even_angles, leading, times

# Those that draw noise for what is not known of a video, and are told what is.
STOCHASTIC = {
  'ddpm': ddpm,
  'ddpm_learned': functools.partial(ddpm, variance='learned'),
  'ddpm_small': functools.partial(ddpm, variance='small'),
}
FIRST_ORDER = {'ddim': ddim} | STOCHASTIC
SAMPLERS = FIRST_ORDER | {'dpmpp_2m': dpmpp_2m}
# (process, steps), and where times are to start at another than the noisiest, (..., start)
SPACINGS = {
  # For a little less than the deviation of videos, about 0.5: more steps for what is finer.
  'even_angles': functools.partial(even_angles, std=0.45),
  'even_times': lambda process, steps, *start: times(steps, *start),
  'leading': lambda process, steps, *start: leading(steps, *start),
}
# Those at which samplers of second order are right: see docs/sampling.md.
SECOND_ORDER_SPACINGS = ('even_angles',)
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
  spacing: str = 'even_angles',
  on_step: OnStep | None = None,
) -> Sample:
  """Returns `sample(denoiser, cond, shape, keys, given, source) -> video`, one for each key.

  sampler, threshold of x0, spacing of the steps in time: one of `SAMPLERS`, `THRESHOLDS`,
    `SPACINGS`; others are a ValueError, and so are fewer steps than 1, and a sampler of second
    order with a spacing that is not one of `SECOND_ORDER_SPACINGS`.
  on_step: called on the host with the number of each step as it is done.

  Videos are in [-1, 1], and t h w c is the `shape` of one.  What is `given`, if it is not None, is
  kept at every step, and to the last bit in the end.  A `source` is noised to its strength, which
  is the first time, and all steps are taken between that and 0.

  All noise of a video is drawn from its own key, so that it is the same in any batch.
  """
  run = _choice('sampler', sampler, SAMPLERS)
  threshold = _choice('threshold', threshold, THRESHOLDS)
  space = _choice('spacing', spacing, SPACINGS)
  if steps < 1:
    raise UserError(f'Got {steps} steps; allowed is 1 or more.')
  if sampler not in FIRST_ORDER and spacing not in SECOND_ORDER_SPACINGS:
    raise UserError(
      f'Got sampler={sampler} with spacing={spacing}, at which its second order is wrong; allowed '
      f'are --spacing={" or ".join(SECOND_ORDER_SPACINGS)} (of super-resolution --ssr_spacing), or '
      f'a sampler of first order: {", ".join(sorted(FIRST_ORDER))}.'
    )

  def sample(
    denoiser: Denoiser,
    cond: Condition,
    shape: tuple[int, int, int, int],
    keys: Keys,
    given: Given | None = None,
    source: Source | None = None,
  ) -> Video:
    first, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    schedule = space(process, steps, *(() if source is None else (source.strength,)))
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(first)
    xt = _begun(process, schedule[0], noise, given, source)
    denoiser, options = threshold(denoiser), dict(keys=keys, on_step=on_step)
    if given is None:
      return run(denoiser, cond, xt, process, schedule, **options)
    if sampler in STOCHASTIC:
      options['known'] = given.known
    return given.kept(run(keeping(denoiser, given), cond, xt, process, schedule, **options))

  return sample


def _begun(process, t, noise, given, source):
  """What a sampler begins from at time t: noise, but for the clean video as far as there is one."""
  at = jnp.full(len(noise), t)
  xt = noise if source is None else process.corrupt(source.video, at, noise)
  if given is None:
    return xt
  return (1 - given.known) * xt + given.known * process.corrupt(given.frames, at, noise)


def video_keys(seed: int, indices: Int[Array, ' b']) -> Keys:
  """The keys of the videos with these numbers, the same whichever others are asked for."""
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(indices)


def _choice(what: str, name: str, choices: Mapping[str, Callable]) -> Callable:
  if name not in choices:
    raise UserError(f'Unknown {what}: {name!r}.  Allowed: {", ".join(sorted(choices))}.')
  return choices[name]
