import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.params import names, nest
from pipelines import style
from stunet.adapters import add_adapters, merge_adapters

RNG = np.random.default_rng(0)


def normal(*shape):
  return jnp.asarray(RNG.normal(size=shape), jnp.bfloat16).astype(jnp.float32)


IMAGE = {'conv': {'kernel': normal(3, 3, 4, 5), 'bias': normal(5)}, 'norm': {'scale': normal(5)}}
VIDEO = nest(names(IMAGE) | {'unit/temporal_conv0/proj/kernel': normal(5, 5)})
PRINTS = {name: style.fingerprint(weight) for name, weight in names(IMAGE).items()}
ADAPTED = add_adapters(IMAGE, 2, jax.random.key(0))
ADAPTED['conv']['adapter']['up'] = normal(2, 5)
NEON = style.Style('in neon style', PRINTS, {'conv': {'adapter': ADAPTED['conv']['adapter']}})


def same(a, b):
  assert names(a).keys() == names(b).keys()
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_alpha_0_is_the_model_and_1_the_styles_by_bits():
  same(style.blended(VIDEO, NEON, 0.0), VIDEO)
  there = names(style.blended(VIDEO, NEON, 1.0))
  same(nest({n: there[n] for n in names(IMAGE)}), merge_adapters(ADAPTED))


def test_between_it_is_their_mean_and_temporal_weights_stay():
  half = style.blended(VIDEO, NEON, 0.5)
  want = (IMAGE['conv']['kernel'] + merge_adapters(ADAPTED)['conv']['kernel']) / 2
  np.testing.assert_allclose(half['conv']['kernel'], want, rtol=1e-5, atol=1e-6)
  same(half['unit'], VIDEO['unit'])


def test_a_style_may_be_whole_weights():
  kernel = normal(3, 3, 4, 5)
  full = style.Style('', PRINTS, {'conv': {'kernel': kernel}})
  np.testing.assert_array_equal(style.blended(VIDEO, full, 1.0)['conv']['kernel'], kernel)


def test_a_style_of_another_image_model_is_refused_by_the_names_that_differ():
  other = nest(names(VIDEO) | {'conv/bias': normal(5), 'new/kernel': normal(2, 2)})
  with pytest.raises(ValueError, match=r'2 of its weights differ: conv/bias, new/kernel\.'):
    style.blended(other, NEON, 0.5)


def test_a_fingerprint_is_of_the_weight_as_it_ships():
  weight = jnp.asarray(RNG.normal(size=100), jnp.float32)
  assert style.fingerprint(weight) == style.fingerprint(weight.astype(jnp.bfloat16))
  assert style.fingerprint(weight) != style.fingerprint(weight * 1.01)


def test_a_file_has_all_of_a_style(tmp_path):
  style.save(tmp_path / 'neon.npz', NEON)
  read = style.load(tmp_path / 'neon.npz')
  assert (read.descriptor, read.fingerprints) == (NEON.descriptor, NEON.fingerprints)
  same(read.changes, NEON.changes)
  assert [path.name for path in tmp_path.iterdir()] == ['neon.npz']


@pytest.mark.parametrize('content', [None, b'', b'not a style'])
def test_what_is_no_style_is_one_line(tmp_path, content):
  path = tmp_path / 'neon.npz'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(ValueError, match='is not a style, as '):
    style.load(path)
