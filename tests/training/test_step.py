"""A step, with networks small enough to know what it should do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from core.params import names, partition
from diffusion.loss import times
from diffusion.process import Process, per_example
from stunet.inflate import TEMPORAL
from stunet.unet import STUNet
from tests.conftest import SMALL, inputs
from training import average
from training.state import State
from training.step import draw, make_step, pixels
from training.validation import make_evaluation, mean_loss

KEY = jax.random.key(0)
PROCESS = Process('cosine', 0.0, 'v')
RNG = np.random.default_rng(0)
BATCH = {
  'video': jnp.asarray(RNG.integers(0, 256, (8, 2, 4, 4, 3), np.uint8)),
  'text': jnp.asarray(RNG.normal(size=(8, 5, 3)), jnp.float32),
  'text_mask': jnp.asarray([[True] * 3 + [False] * 2] * 8),
}
TIMES = times(PROCESS, high_noise=2.0)
OPTIONS = dict(steps=100, ema_decay=0.99, drop_text=0.1, accumulate=1, times=TIMES)


def linear(params, x, t, cond):
  """A network which is linear in its parameters: a matrix of the pixels, and one of the text."""
  words = (cond.text * cond.text_mask[..., None]).sum(1) @ params['words']
  return x @ params['matrix'] + per_example(t, x) * words[:, None, None, None]


def start(tx, seed=1):
  rng = np.random.default_rng(seed)
  random = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return State.create({'matrix': random(3, 3), 'words': random(3, 3)}, tx)


@functools.cache
def jitted(tx, **options):
  return jax.jit(make_step(linear, PROCESS, tx, **(OPTIONS | options)))


def loss_by_hand(params, example):
  x0, _, t, eps, cond = example
  angle = np.pi / 2 * per_example(t, x0)  # the cosine schedule
  alpha, sigma = jnp.cos(angle), jnp.sin(angle)
  error = linear(params, alpha * x0 + sigma * eps, t, cond) - (alpha * eps - sigma * x0)
  return (error**2).mean()


SGD = optax.sgd(0.1)
drawn = jax.jit(draw, static_argnums=(2, 3))


def test_a_step_goes_down_the_gradient_of_the_loss():
  state = start(SGD).replace(step=jnp.int32(7))
  got, metrics = jitted(SGD)(state, {}, BATCH, KEY)
  example = drawn(BATCH, jax.random.fold_in(KEY, 7), 0.1, TIMES)
  loss, grads = jax.jit(jax.value_and_grad(loss_by_hand))(state.params, example)
  want = {name: state.params[name] - 0.1 * grads[name] for name in grads}
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), got.params, want
  )
  norm = lambda tree: np.sqrt(sum(np.square(p).sum() for p in tree.values()))
  for name, value in {
    'loss': loss,
    'grad_norm': norm(grads),
    'update_norm': 0.1 * norm(grads),
    'param_norm': norm(want),
  }.items():
    np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
  assert got.step == 8


def test_steps_lower_the_loss_of_a_fixed_batch_to_the_least():
  """Pixels have mean 0 and variance 1/3, so  E v^2 = E x_t^2 = 2/3  and  E v x_t = 2 / (3 pi)  over
  all times.  The best matrix is the ratio, 1 / pi on its diagonal, and the loss is then 0.599.
  """
  tx = optax.adam(0.05)
  losses = jax.jit(make_evaluation(linear, PROCESS, times=4))
  evaluate = lambda params: losses(params, BATCH, KEY, 0).mean()
  state, step = start(tx), jitted(tx, times=times(PROCESS))
  assert evaluate(state.params) > 1
  for _ in range(60):
    state, _ = step(state, {}, BATCH, KEY)
  assert 0.55 < evaluate(state.params) < 0.65
  assert 0.55 < evaluate(state.ema) < 0.65
  np.testing.assert_allclose(state.params['matrix'], np.eye(3) / np.pi, atol=0.12)


@pytest.mark.parametrize('accumulate', [2, 8])
def test_microbatches_change_nothing(accumulate):
  state = start(SGD)
  want, metrics = jitted(SGD)(state, {}, BATCH, KEY)
  got, same = jitted(SGD, accumulate=accumulate)(state, {}, BATCH, KEY)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  jax.tree.map(close, (got, same), (want, metrics))


def test_a_step_is_a_function_of_its_number_and_the_key():
  state = start(SGD)
  after = lambda state, key: jitted(SGD)(state, {}, BATCH, key)[0].params['matrix']
  once = after(state, KEY)
  np.testing.assert_array_equal(after(state, KEY), once)
  assert not np.array_equal(after(state, jax.random.key(1)), once)
  assert not np.array_equal(after(state.replace(step=jnp.int32(1)), KEY), once)


@pytest.mark.parametrize(
  ('steps', 'weights'),
  [
    # The mean of all until there are five of them, which is after the third of a run of 12.
    (12, [*[0.8**7 / 5] * 5, *(0.2 * 0.8 ** (6 - i) for i in range(7))]),
    # k = 2: in proportion to 1, 2, 3, ... until the weight of the newest, 2 / (n + 1), is 0.2.
    (100, [*(0.8**3 * (i + 1) / 45 for i in range(9)), *(0.2 * 0.8 ** (2 - i) for i in range(3))]),
  ],
)
def test_the_average_has_its_weights_in_closed_form(steps, weights):
  """Of the parameters after each of 12 updates, for a decay of 0.8, whose length is 5 updates."""
  state, after, decays = start(SGD), [], []
  for _ in range(12):
    state, metrics = jitted(SGD, steps=steps, ema_decay=0.8)(state, {}, BATCH, KEY)
    after.append(np.asarray(state.params['matrix'], np.float64))
    decays.append(metrics['ema_decay'])
  np.testing.assert_allclose(sum(weights), 1, rtol=1e-12)  # none is left for the initial ones
  np.testing.assert_allclose(state.ema['matrix'], np.tensordot(weights, after, 1), rtol=1e-5)
  k = {12: 1, 100: 2}[steps]
  np.testing.assert_allclose(decays, [min(0.8, n / (n + k)) for n in range(12)], rtol=1e-5)


@pytest.mark.parametrize(
  ('steps', 'decay', 'reached'),
  [(1200, 0.998, 499), (800, 0.998, 499), (2600, 0.998, 499), (200_000, 0.9999, 20_000)],
)
def test_the_average_has_its_full_length_after_a_tenth_of_a_run_or_its_own_length(
  steps, decay, reached
):
  weights = jax.vmap(lambda n: average.weight(n, steps, decay))(jnp.arange(steps))
  decays = 1 - np.asarray(weights, np.float64)
  assert decays[0] == 0
  assert (np.diff(decays) >= 0).all()
  assert np.argmax(decays > decay - 1e-7) == pytest.approx(reached, rel=2e-3)
  np.testing.assert_allclose(decays[reached + 40 :], decay, rtol=1e-6)


def test_the_initial_parameters_count_for_nothing_though_the_first_update_was_left_out():
  state, step = start(SGD), jitted(SGD)
  state, metrics = step(state, {}, {**BATCH, 'text': jnp.full_like(BATCH['text'], jnp.nan)}, KEY)
  assert metrics['skipped'] == 1
  state, metrics = step(state, {}, BATCH, KEY)
  np.testing.assert_allclose(state.ema['matrix'], state.params['matrix'], rtol=1e-6)
  assert metrics['ema_decay'] == 0


def small_batch(b):
  return {
    'video': jnp.zeros((b, 1, 1, 1, 3), jnp.uint8),
    'text': jnp.ones((b, 2, 3)),
    'text_mask': jnp.asarray([[True, False]] * b),
  }


def test_the_text_of_a_fraction_is_dropped():
  b = 4000
  *_, cond = drawn(small_batch(b), KEY, 0.1)
  kept = np.asarray(cond.text_mask[:, 0])
  assert abs(np.mean(~kept) - 0.1) < 0.02  # four standard deviations
  np.testing.assert_array_equal(cond.text, np.ones((b, 2, 3)) * kept[:, None, None])
  np.testing.assert_array_equal(cond.text_mask, np.stack([kept, np.zeros(b)], 1))


@pytest.mark.parametrize('high_noise', [1.0, 4.0])
def test_times_are_evenly_spread_and_in_no_order(high_noise):
  """In their distribution: of Beta(k, 1), the share of times below t is t^k."""
  firsts = set()
  for seed in range(3):
    _, t, *_ = drawn(small_batch(64), jax.random.key(seed), 0.1, times(PROCESS, high_noise))
    assert 0 <= t.min() <= t.max() < 1
    share = np.sort(t) ** high_noise
    np.testing.assert_allclose(np.diff(share), 1 / 64, atol=1e-6)
    assert abs(np.corrcoef(t, np.arange(64))[0, 1]) < 0.5
    firsts.add(float(share[0]))
  assert len(firsts) == 3


def test_noise_is_normal_and_differs_everywhere():
  *_, eps, _ = drawn(small_batch(4000), KEY, 0.1)
  assert abs(eps.mean()) < 0.04
  assert abs(eps.std() - 1) < 0.03
  assert np.unique(eps).size > 0.99 * eps.size


def test_pixels_are_from_minus_one_to_one():
  np.testing.assert_allclose(
    pixels(jnp.array([0, 51, 255], jnp.uint8)[None, None, None, None]).ravel(), [-1, -0.6, 1],
    rtol=1e-6,
  )  # fmt: skip


def test_evaluation_is_the_mean_over_times_and_the_same_each_time():
  """A network that outputs zero has the loss  E v^2 = alpha^2 + sigma^2 = 1  for black frames."""
  zero = jax.jit(make_evaluation(lambda params, x, t, cond: 0 * x, PROCESS, times=8))
  black = {**BATCH, 'video': jnp.zeros((8, 8, 8, 8, 3), jnp.uint8)}
  assert zero({}, black, KEY, 0).shape == (8,)
  np.testing.assert_allclose(zero({}, black, KEY, 0).mean(), 1, atol=0.02)

  # One that outputs its time is right by chance alone:  E (v - t)^2 = 1 + E t^2 - 2 E t E v.
  timed = jax.jit(make_evaluation(lambda p, x, t, c: 0 * x + per_example(t, x), PROCESS, times=8))
  t = (np.arange(8) + 0.5) / 8
  v = np.sin(np.pi / 2 * t)  # of black, which is -1:  alpha eps - sigma x0
  want = np.mean(1 + t**2 - 2 * t * v)
  once = timed({}, black, KEY, 0)
  np.testing.assert_allclose(once.mean(), want, atol=0.02)
  np.testing.assert_array_equal(once, timed({}, black, KEY, 0))
  assert (once != timed({}, black, jax.random.key(1), 0)).any()
  assert (once != timed({}, black, KEY, 1)).any()  # the next batch has noise of its own


@pytest.mark.parametrize('count', [1, 5, 8, 11])
def test_the_loss_of_several_batches_is_that_of_all_their_examples_once(count):
  """The last batch repeats examples, which do not count again."""
  all_losses = np.random.default_rng(0).normal(size=count).astype(np.float32)
  batches = [{'x': all_losses[(4 * i + np.arange(4)) % count]} for i in range(-(-count // 4))]
  counts = [min(4, count - first) for first in range(0, count, 4)]
  result = mean_loss(lambda number, batch: batch['x'] + number, batches, counts)
  assert isinstance(result, float)
  np.testing.assert_allclose(result, np.mean(all_losses + np.arange(count) // 4), rtol=1e-6)


@functools.cache
def traced(trainable):
  """The program of a step of a real network of which some is trained, and the frozen parameters."""
  x, t, cond = inputs(b=2, frames=2)
  model, tx = STUNet(**SMALL), optax.adam(1e-3)
  params = jax.eval_shape(model.init, KEY, x, t, cond)['params']
  params = jax.tree.map(lambda p: jnp.zeros(p.shape), params)
  params, frozen = partition(params, trainable)
  apply = lambda params, *inputs: model.apply({'params': params}, *inputs)
  batch = {'video': jnp.zeros(x.shape, jnp.uint8), 'text': cond.text, 'text_mask': cond.text_mask}
  step = make_step(apply, PROCESS, tx, **OPTIONS)
  state = State.create(params, tx)
  program, shapes = jax.make_jaxpr(step, return_shape=True)(state, frozen, batch, KEY)
  return program.jaxpr, shapes[0], frozen


def made(program):
  """The shapes of all that the program and those within it compute."""
  for equation in program.eqns:
    yield from (variable.aval.shape for variable in equation.outvars)
    for value in jax.tree.leaves(list(equation.params.values())):
      if hasattr(value, 'eqns'):
        yield from made(value)


KERNEL = 'conv_in/kernel'  # of a shape that nothing else has: 3 3 3 8


def test_frozen_parameters_have_no_place_in_the_state():
  _, state, frozen = traced(TEMPORAL)
  assert KERNEL in names(frozen)
  paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
  arrays = [path for path in paths if 'kernel' in path or 'bias' in path or 'scale' in path]
  assert arrays
  assert all('temporal' in path for path in arrays)
  kinds = {path.split('[')[0] for path in arrays}
  assert kinds == {'.params', '.ema', '.opt'}
  assert len(arrays) == 4 * len(jax.tree.leaves(state.params))  # with both moments


def test_no_gradient_of_frozen_parameters_is_computed():
  shape = (3, 3, 3, 8)
  everything, _, _ = traced(('.*',))
  temporal, _, frozen = traced(TEMPORAL)
  assert names(frozen)[KERNEL].shape == shape
  assert shape in set(made(everything))
  assert shape not in set(made(temporal))
