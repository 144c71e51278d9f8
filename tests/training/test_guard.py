import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from core.condition import Condition
from diffusion.process import Process
from training import guard
from training.state import State
from training.step import make_step

PROCESS = Process('cosine', 0.0, 'v')
TX = optax.adam(0.1)
BATCH = {
  'video': jnp.zeros((4, 1, 2, 2, 3), jnp.uint8),
  'text': jnp.ones((4, 1, 1)),
  'text_mask': jnp.ones((4, 1), bool),
}


def network(params, x, t, cond: Condition):
  return params['gain'] * x * cond.text[:, :, :, None, None].mean()


@pytest.fixture(scope='module')
def step():
  options = dict(steps=100, ema_decay=0.9, drop_text=0.0, accumulate=1)
  return jax.jit(make_step(network, PROCESS, TX, **options))


def start():
  return State.create({'gain': jnp.ones(())}, TX)


def with_text(value):
  return BATCH | {'text': jnp.full((4, 1, 1), value)}


@pytest.mark.parametrize('bad', [np.nan, np.inf, 1e38])
def test_an_update_that_is_not_finite_changes_nothing_but_the_number_of_the_step(step, bad):
  key = jax.random.key(0)
  before, _ = step(start(), {}, BATCH, key)
  after, metrics = step(before, {}, with_text(bad), key)
  for part in ('params', 'ema', 'opt'):
    jax.tree.map(np.testing.assert_array_equal, getattr(after, part), getattr(before, part))
  assert (after.step, metrics['skipped'], metrics['in_a_row']) == (2, 1, 1)
  assert metrics['update_norm'] == 0

  later, metrics = step(after, {}, BATCH, key)
  assert (metrics['skipped'], metrics['in_a_row']) == (1, 0)
  assert later.params['gain'] != after.params['gain']


def test_a_spike_is_left_out_where_that_is_asked_for():
  def judged(losses, spike):
    memory, sound = guard.start(), []
    for loss in losses:
      one, memory = guard.judge(memory, jnp.float32(loss), jnp.float32(1), spike)
      sound.append(bool(one))
    return sound, memory

  losses = [1.0, 1.1, 0.9, 3.5, 1.0]
  assert judged(losses, 3.0)[0] == [True, True, True, False, True]
  assert judged(losses, 0.0)[0] == [True] * 5
  _, memory = judged(losses, 3.0)
  assert float(memory['usual_loss']) == pytest.approx(1.0, abs=0.01)  # 3.5 is no part of it
  assert (memory['skipped'], memory['in_a_row']) == (1, 0)


def test_what_was_left_out_is_named_and_too_many_end_the_run():
  metrics = {'loss': np.nan, 'grad_norm': np.inf, 'skipped': 7, 'in_a_row': 0}
  assert guard.report(120, metrics, abort_after=3) is None
  metrics['in_a_row'] = 2
  message = guard.report(120, metrics, abort_after=3)
  assert message == 'step 120: loss nan, gradient norm inf; its update is left out, 7 so far'
  metrics['in_a_row'] = 3
  with pytest.raises(FloatingPointError, match='The updates of steps 118 to 120 were left out'):
    guard.report(120, metrics, abort_after=3)


def test_a_step_says_whether_any_process_got_a_signal(step):
  for stops, want in (([False] * 4, False), ([False, False, True, False], True)):
    _, metrics = step(start(), {}, BATCH | {'stop': jnp.array(stops)}, jax.random.key(0))
    assert bool(metrics['stop']) is want
  _, metrics = step(start(), {}, BATCH, jax.random.key(0))
  assert not metrics['stop']
