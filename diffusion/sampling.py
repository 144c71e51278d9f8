"""From noise to a video: a sampler, the times of its steps, and what happens at each of them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from core.condition import Condition
from core.errors import UserError
from core.typing import Keys, Video
from diffusion.denoiser import Denoiser, clipped, composited, dynamically_thresholded
from diffusion.process import Process
from diffusion.sampler import OnStep, ddim, ddpm, dpmpp_2m, even_angles, leading, leading_sd, times

# Samplers that draw noise at every step.  They need the mask, to draw none for given pixels.
STOCHASTIC = {
  'ddpm': ddpm,
  'ddpm_learned': functools.partial(ddpm, variance='learned'),
  'ddpm_small': functools.partial(ddpm, variance='small'),
}
FIRST_ORDER = {'ddim': ddim} | STOCHASTIC
SAMPLERS = FIRST_ORDER | {'dpmpp_2m': dpmpp_2m}
# (process, steps) -> times; or (process, steps, start), where the first time is not the noisiest
SPACINGS = {
  # Videos have a standard deviation of about 0.5; a little less gives more steps to fine detail.
  'even_angles': functools.partial(even_angles, std=0.45),
  'even_times': lambda process, steps, *start: times(steps, *start),
  'leading': lambda process, steps, *start: leading(steps, *start),
  'leading_sd': lambda process, steps, *start: leading_sd(steps, *start),
}
# The spacings at which samplers of second order are accurate: see docs/sampling.md.
SECOND_ORDER_SPACINGS = ('even_angles',)
THRESHOLDS = {
  'dynamic': dynamically_thresholded,
  # That of DeepFloyd IF's first stage.
  'dynamic_if': functools.partial(dynamically_thresholded, quantile=0.95, cap=1.5),
  'static': clipped,
}

# (params, cond, keys) -> video; or (params, cond, keys, initial_video)
Generate = Callable[..., Video]
Sample = Callable[..., Video]


@flax.struct.dataclass
class InitialVideo:
  """A video from which sampling starts, in place of pure noise (SDEdit, Meng et al., 2022)."""

  video: Any  # b t h w c in [-1, 1]
  strength: Any  # the time in [0, 1] up to which the video is noised, and at which sampling starts


def make_sample(
  process: Process,
  *,
  sampler: str,
  steps: int,
  threshold: str = 'static',
  spacing: str = 'even_angles',
  on_step: OnStep | None = None,
) -> Sample:
  """Returns `sample(denoiser, cond, shape, keys, initial_video) -> video`, one for each key.

  sampler: one of `SAMPLERS`.
  steps: how many; 1 or more.
  threshold: what is done to x0 at every step, one of `THRESHOLDS`.
  spacing: how the times of the steps are chosen, one of `SPACINGS`; with a sampler of second order,
    one of `SECOND_ORDER_SPACINGS`.
  on_step: called on the host with the number of each step when it is done.

  ValueError for other values.

  Videos are in [-1, 1], and `shape` is t h w c of one.  If the condition has a mask, the pixels
  that it gives are put in place at every step, and come out with the same bits.  An `initial_video`
  is noised up to its strength, and all steps are taken from there to 0.

  All noise of a video is drawn from its own key, so that the video is the same in any batch.
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
    initial_video: InitialVideo | None = None,
  ) -> Video:
    first, keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    start = () if initial_video is None else (initial_video.strength,)
    step_times = space(process, steps, *start)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape))(first)
    xt = _initial_xt(process, step_times[0], noise, cond, initial_video)
    denoiser, options = threshold(denoiser), dict(keys=keys, on_step=on_step)
    if cond.mask is None:
      return run(denoiser, cond, xt, process, step_times, **options)
    if sampler in STOCHASTIC:
      options['mask'] = cond.mask
    return cond.composite(run(composited(denoiser), cond, xt, process, step_times, **options))

  return sample


def _initial_xt(process, t, noise, cond, initial_video):
  """The noisy video at the first time t: noise, the noised initial video, and given pixels
  noised."""
  time = jnp.full(len(noise), t)
  xt = noise if initial_video is None else process.corrupt(initial_video.video, time, noise)
  if cond.mask is None:
    return xt
  return (1 - cond.mask) * xt + cond.mask * process.corrupt(cond.masked_video, time, noise)


def video_keys(seed: int, indices: Int[Array, ' b']) -> Keys:
  """The keys of the videos with these numbers: each depends on its own number and the seed
  alone."""
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(indices)


def _choice(what: str, name: str, choices: Mapping[str, Callable]) -> Callable:
  if name not in choices:
    raise UserError(f'Unknown {what}: {name!r}.  Allowed: {", ".join(sorted(choices))}.')
  return choices[name]
