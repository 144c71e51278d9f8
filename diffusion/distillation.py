"""Distillation: a network learns to do in one step of sampling what its teacher does in several.

The teacher is a network with classifier-free guidance, sampled by DDIM.  The student learns its
guided predictions (Meng et al., 2023, "On distillation of guided diffusion models", with one scale)
and its steps (progressive distillation: Salimans & Ho, 2022, Algorithm 2, with any number of steps
of the teacher for one of the student) at once.  The student is sampled by DDIM without guidance, at
the times at which it was trained.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from core.condition import Condition
from core.errors import UserError
from core.typing import Float, Time, Video
from diffusion.denoiser import Denoiser
from diffusion.process import Process, per_example
from diffusion.sampler import Times, coefficients
from diffusion.sampling import SPACINGS

# (x0, eps, t, condition) -> the x0 and the eps that the student is to predict, of the same x_t.
StudentTarget = Callable[[Video, Video, Time, Condition], tuple[Video, Video]]


def step_times(process: Process, spacing: str, steps: int, teacher_steps: int) -> Times:
  """The times of all steps of the teacher, from 1 to 0; every `teacher_steps`-th is one of the
  student's, of which there are `steps`.

  UserError for fewer than one step of either, and for a spacing of which this is not true.
  """
  if steps < 1 or teacher_steps < 1:
    raise UserError(f'Got {steps} steps of {teacher_steps} of the teacher; allowed is 1 or more.')
  space = SPACINGS[spacing]
  times = space(process, steps * teacher_steps)
  if not np.allclose(times[::teacher_steps], space(process, steps), atol=1e-4):
    raise UserError(
      f'sampling.spacing is {spacing}, whose times for {steps} steps are not among those for '
      f'{steps * teacher_steps}; allowed are those that are even.'
    )
  return times


def to_times(times: Times, teacher_steps: int) -> Callable[[Float[' b']], Time]:
  """The distribution of the times of training, from numbers in [0, 1): those at which a step of the
  student starts, each as often as the others."""
  starts = times[:-1:teacher_steps]
  return lambda u: starts[jnp.minimum(jnp.int32(u * len(starts)), len(starts) - 1)]


def make_target(
  teacher: Denoiser, process: Process, times: Times, teacher_steps: int
) -> StudentTarget:
  """Returns `target(x0, eps, t, cond) -> (x0, eps)`, for times t that `to_times` returns.

  With the x0 that it returns, one step of DDIM goes from x_t to where `teacher_steps` steps of the
  teacher go (Salimans & Ho, 2022, Eq. 8), and x_t = alpha x0 + sigma eps holds.
  """
  starts = times[:-1:teacher_steps]

  def factors(t, s, x):  # of x_t and of x0 in a step of DDIM
    return (per_example(factor, x) for factor in coefficients(process, t, s))

  def target(x0, eps, t, cond):
    first = jnp.argmin(jnp.abs(t[:, None] - starts[None]), -1) * teacher_steps
    xt = x = process.corrupt(x0, t, eps)
    for i in range(teacher_steps):  # not a loop, in which XLA's CPU backend is slow at convolutions
      start, end = times[first + i], times[first + i + 1]
      keep, add = factors(start, end, x)
      x = keep * x + add * teacher(x, start, cond)[..., : x.shape[-1]]
    keep, add = factors(t, times[first + teacher_steps], x)
    x0 = (x - keep * xt) / add
    return x0, process.eps_from(xt, t, x0)

  return target
