import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from training.optimizer import decayed, make_optimizer, rate

OPTIONS = {
  'name': 'adamw',
  'learning_rate': 0.1,
  'warmup': 0,
  'decay': 'constant',
  'clip': 1e9,
  'weight_decay': 0.0,
  'b1': 0.9,
  'b2': 0.99,
  'eps': 1e-8,
}
PARAMS = {'kernel': jnp.array([[1.0, -2.0], [3.0, 4.0]]), 'bias': jnp.array([0.5, -0.5])}
GRADS = {'kernel': jnp.array([[3.0, 0.0], [0.0, 0.1]]), 'bias': jnp.array([4.0, -0.2])}


def updates(params, *grads, **options):
  """The update of the last of the gradients, the parameters staying as they are."""
  tx = make_optimizer(100, **(OPTIONS | options))

  @jax.jit
  def run(params, grads):
    state = tx.init(params)
    for g in grads:
      update, state = tx.update(g, state, params)
    return update

  return run(params, grads)


def close(got, want):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, want)


def test_the_rate_rises_then_stays():
  schedule = rate(110, learning_rate=2.0, warmup=10, decay='constant')
  got = [float(schedule(step)) for step in (0, 5, 10, 60, 110, 1000)]
  np.testing.assert_allclose(got, [0, 1, 2, 2, 2, 2], rtol=1e-6)


def test_the_rate_rises_then_falls_along_a_cosine_to_zero_at_the_last_step():
  schedule = rate(110, learning_rate=2.0, warmup=10, decay='cosine')
  got = [float(schedule(step)) for step in (0, 5, 10, 35, 60, 110, 1000)]
  want = [0, 1, 2, 1 + np.cos(np.pi / 4), 1, 0, 0]
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_the_rate_rises_then_stays_then_falls_linearly_to_zero_at_the_last_step():
  schedule = rate(100, learning_rate=2.0, warmup=10, decay='wsd')
  got = [float(schedule(step)) for step in (0, 5, 10, 60, 70, 80, 100, 1000)]
  np.testing.assert_allclose(got, [0, 1, 2, 2, 1.5, 1, 0, 0], rtol=1e-5, atol=1e-6)


def test_a_warmup_longer_than_the_stable_part_is_followed_by_the_fall():
  schedule = rate(100, learning_rate=2.0, warmup=80, decay='wsd')
  got = [float(schedule(step)) for step in (0, 40, 80, 90, 100)]
  np.testing.assert_allclose(got, [0, 1, 2, 1, 0], rtol=1e-5, atol=1e-6)


def test_without_warmup_the_first_step_has_the_whole_rate():
  assert float(rate(10, learning_rate=2.0, warmup=0, decay='constant')(0)) == 2
  assert float(rate(10, learning_rate=2.0, warmup=0, decay='cosine')(0)) == 2


def test_adamw_by_hand():
  """Adam (Kingma & Ba, 2015, Algorithm 1), with the decay of Loshchilov & Hutter (2019)."""
  second = jax.tree.map(lambda g: -2 * g + 1, GRADS)
  got = updates(PARAMS, GRADS, second, weight_decay=0.01)

  def want(p, g1, g2, decay):
    p, g1, g2 = (np.asarray(a, np.float64) for a in (p, g1, g2))
    m, v = 0.9 * 0.1 * g1 + 0.1 * g2, 0.99 * 0.01 * g1**2 + 0.01 * g2**2
    m, v = m / (1 - 0.9**2), v / (1 - 0.99**2)
    return -0.1 * (m / (np.sqrt(v) + 1e-8) + decay * p)

  close(got, {
    'kernel': want(PARAMS['kernel'], GRADS['kernel'], second['kernel'], 0.01),
    'bias': want(PARAMS['bias'], GRADS['bias'], second['bias'], 0),  # which is not decayed
  })  # fmt: skip


def test_long_gradients_are_shortened_and_short_ones_are_not():
  """With eps far above a gradient, the first step of Adam is  -rate * gradient / eps."""
  long = optax.tree.norm(GRADS)
  for clip, scale in ((2.0, 2.0 / long), (6.0, 1.0)):
    got = updates(PARAMS, GRADS, clip=clip, eps=1e6)
    close(got, jax.tree.map(lambda g: -0.1 * scale * g / 1e6, GRADS))  # noqa: B023


def test_kernels_decay_and_biases_norms_and_positions_do_not():
  shapes = {
    'kernel': (8, 8),
    'conv': (3, 3, 1, 8),
    'bias': (8,),
    'position': (1, 1, 8),
    'scale': (),
  }
  params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
  assert {name for name, yes in decayed(params).items() if yes} == {'kernel', 'conv'}


@pytest.mark.parametrize('name', ['adafactor', 'adamw'])
def test_a_step_decays_by_the_rate_times_the_decay(name):
  still = jax.tree.map(jnp.zeros_like, PARAMS)
  got = updates(PARAMS, still, name=name, weight_decay=0.01)
  close(got, {'kernel': -0.1 * 0.01 * PARAMS['kernel'], 'bias': still['bias']})


def test_adafactor_holds_rows_and_columns_in_place_of_the_second_moment():
  """Shazeer & Stern (2018): the moment is the outer product of its means over rows and columns."""
  rng = np.random.default_rng(0)
  params = {'kernel': jnp.zeros((128, 256)), 'bias': jnp.zeros(8)}
  state = jax.eval_shape(make_optimizer(10, **(OPTIONS | {'name': 'adafactor'})).init, params)
  stored = sum(x.size for x in jax.tree.leaves(state))
  assert stored < 3 * (128 + 256)

  rank1 = np.outer(rng.uniform(1, 2, 128), rng.uniform(1, 2, 256))
  signs = rng.choice([-1, 1], rank1.shape)
  grads = {'kernel': jnp.asarray(rank1 * signs, jnp.float32), 'bias': jnp.arange(-4.0, 4.0)}
  got = updates(params, grads, name='adafactor')
  # Of a moment which is such a product nothing is lost: the first update is the sign.
  np.testing.assert_allclose(got['kernel'], -0.1 * signs, rtol=1e-4)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'name': 'adam'}, "optim.name is 'adam'; allowed are adafactor, adamw."),
    ({'decay': 'linear'}, "optim.decay is 'linear'; allowed are constant, cosine."),
  ],
)
def test_unknown_names_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    make_optimizer(10, **(OPTIONS | options))


def test_a_misspelt_option_is_refused():
  with pytest.raises(TypeError, match='learning_rat'):
    make_optimizer(10, **OPTIONS, learning_rat=1.0)


def test_muon_by_hand():
  """The update of a kernel has all singular values near those of an orthogonal matrix, with the
  RMS of an update of AdamW (Liu et al., 2025, Eq. 4); the outermost layers are AdamW's."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  shape = {'kernel': (3, 3, 4, 8), 'bias': (8,)}
  params, grads = (
    {name: {k: normal(*s) for k, s in shape.items()} for name in ('conv_in', 'conv1')}
    for _ in range(2)
  )
  got = updates(params, grads, name='muon', weight_decay=0.01)
  tx = optax.adamw(0.1, 0.9, 0.99, 1e-8, weight_decay=0.0, nesterov=True)
  adamw, _ = tx.update(grads, tx.init(params), params)
  close(got['conv_in'], adamw['conv_in'])
  close(got['conv1']['bias'], adamw['conv1']['bias'])
  update = -(got['conv1']['kernel'] / 0.1 + 0.01 * params['conv1']['kernel'])
  values = np.linalg.svd(np.reshape(update, (36, 8)), compute_uv=False) / (0.2 * 6)
  assert 0.6 < values.min() < values.max() < 1.3  # what five Newton-Schulz steps reach
  u, _, v = np.linalg.svd(np.reshape(grads['conv1']['kernel'], (36, 8)), full_matrices=False)
  assert np.vdot(update, u @ v) / np.linalg.norm(update) / np.linalg.norm(u @ v) > 0.97
