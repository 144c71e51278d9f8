"""Distillation: the target of a student is where the steps of its teacher go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.condition import Condition
from diffusion.distillation import make_target, step_times, to_times
from diffusion.process import Process
from diffusion.sampler import ddim
from diffusion.sampling import SPACINGS

KEYS = jax.random.split(jax.random.key(0), 1)


def teacher(xt, t, cond):
  """A smooth function of the noisy video and of its time."""
  return jnp.tanh(xt + t[:, None, None, None, None])


@pytest.mark.parametrize('shift', [0.0, -4.0])
def test_a_step_with_the_target_goes_where_the_steps_of_the_teacher_go(shift):
  """The sampler is the reference: its steps of the teacher, and its one step with the target."""
  process = Process('cosine', shift)
  times = step_times(process, 'even_angles', 4, 3)
  target = make_target(teacher, process, times, 3)
  x0, eps = jax.random.normal(jax.random.key(1), (2, 4, 2, 3, 3, 1))
  t = times[jnp.array([0, 3, 6, 9])]
  wanted, noise = target(x0, eps, t, Condition())
  xt = process.corrupt(x0, t, eps)
  np.testing.assert_allclose(process.corrupt(wanted, t, noise), xt, atol=1e-5)
  for i in range(4):
    run = lambda denoiser, times, i=i: ddim(
      denoiser, Condition(), xt[i : i + 1], process, times, keys=KEYS
    )
    ends = times[3 * i : 3 * i + 4]
    several = run(teacher, ends)
    once = run(lambda *_, i=i: wanted[i : i + 1], ends[jnp.array([0, 3])])
    np.testing.assert_allclose(once, several, atol=2e-5)


def test_a_student_with_as_many_steps_as_its_teacher_learns_its_predictions():
  process = Process('cosine', -4.0, 'x0')
  times = step_times(process, 'even_angles', 5, 1)
  x0, eps = jax.random.normal(jax.random.key(1), (2, 5, 1, 2, 2, 3))
  wanted, _ = make_target(teacher, process, times, 1)(x0, eps, times[:-1], Condition())
  xt = process.corrupt(x0, times[:-1], eps)
  np.testing.assert_allclose(wanted, teacher(xt, times[:-1], Condition()), atol=2e-5)


def test_times_of_training_are_those_at_which_a_step_of_the_student_starts():
  times = step_times(Process('cosine', -2.0), 'even_angles', 8, 4)
  u = (jnp.arange(800) + 0.5) / 800
  drawn, counts = np.unique(to_times(times, 4)(u), return_counts=True)
  np.testing.assert_array_equal(drawn, np.sort(times[:-1:4]))
  assert (counts == 100).all()


@pytest.mark.parametrize(('steps', 'teacher_steps'), [(0, 4), (8, 0)])
def test_no_steps_are_refused(steps, teacher_steps):
  with pytest.raises(ValueError, match='allowed is 1 or more'):
    step_times(Process(), 'even_angles', steps, teacher_steps)


def test_the_times_of_a_student_are_those_at_which_it_is_sampled():
  process = Process('cosine', -1.0)
  for name in ('even_angles', 'even_times'):
    times = step_times(process, name, 8, 4)
    np.testing.assert_allclose(times[::4], SPACINGS[name](process, 8), atol=1e-4)
  with pytest.raises(ValueError, match='leading, whose times for 8 steps are not among those'):
    step_times(process, 'leading', 8, 4)
