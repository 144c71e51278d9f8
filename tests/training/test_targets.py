"""What a network gets and what it is to predict, where these are not those of the data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffusion.process import Process, per_example
from training.state import State
from training.step import draw, make_step

KEY = jax.random.key(0)
PROCESS = Process('cosine', 0.0, 'x0')
BATCH = {
  'video': jax.random.randint(KEY, (8, 2, 4, 4, 3), 0, 256).astype(jnp.uint8),
  'text': jnp.ones((8, 2, 3)),
  'text_mask': jnp.ones((8, 2), bool),
}
SGD = optax.sgd(0.1)
STATE = State.create({'scale': jnp.full((), 0.7)}, SGD)


def network(params, xt, t, cond):
  return params['scale'] * xt + per_example(t, xt)


def loss(frozen, **options):
  """The loss of the first step, and what is drawn for it."""
  options |= dict(steps=10, ema_decay=0.9, drop_text=0.0, accumulate=1)
  _, metrics = jax.jit(make_step(network, PROCESS, SGD, **options))(STATE, frozen, BATCH, KEY)
  return metrics['loss'], draw(BATCH, jax.random.fold_in(KEY, 0), 0.0)


def test_the_network_is_conditioned_on_a_time_and_gets_an_input_of_another():
  """Conditioned on t, it gets x at t / 2 and is to predict x0."""
  got, (x0, conditioned, t, eps, _) = loss({}, less_noisy=lambda u, t: t / 2)
  np.testing.assert_array_equal(conditioned, t)
  t = t / 2
  predicted = 0.7 * PROCESS.corrupt(x0, t, eps) + per_example(conditioned, x0)
  want = jnp.square(predicted - PROCESS.target(x0, t, eps)).mean()
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_target_takes_the_place_of_the_clean_video():
  """The frozen parameters say which: the network is to predict their x0, not the data's."""
  target = lambda frozen, x0, eps, t, cond: (jnp.full_like(x0, frozen['x0']), eps)
  got, (x0, _, t, eps, cond) = loss({'x0': jnp.full((), 0.25)}, target=target)
  predicted = network(STATE.params, PROCESS.corrupt(x0, t, eps), t, cond)
  want = jnp.square(predicted - PROCESS.target(jnp.full_like(x0, 0.25), t, eps)).mean()
  np.testing.assert_allclose(got, want, rtol=1e-5)
