import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core import params as P
from stunet.unet import STUNet
from tests.conftest import SMALL, inputs
from tests.oracles import random_params

TEMPORAL = (r'(.*/)?temporal[^/]*/.*',)


def tree(fill=1.0):
  return {
    'down0': {'conv': {'kernel': jnp.full((3, 2), fill)}, 'temporal_conv': {'bias': jnp.zeros(4)}},
    'temporal_middle': {'kernel': jnp.full(5, 2 * fill)},
  }


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)  # raises where the structures differ


def test_names_are_paths_and_nest_is_their_inverse():
  named = P.names(tree())
  assert sorted(named) == [
    'down0/conv/kernel',
    'down0/temporal_conv/bias',
    'temporal_middle/kernel',
  ]
  same(P.nest(named), tree())


def test_a_pattern_is_of_the_whole_name():
  assert P.matches('down0/temporal_conv/bias', TEMPORAL)
  assert P.matches('temporal_middle/kernel', TEMPORAL)
  assert not P.matches('down0/conv/kernel', TEMPORAL)
  assert not P.matches('down0/conv/kernel', ['conv/kernel', 'down0/conv'])


def test_numbers_are_counted():
  assert P.count(tree()) == 3 * 2 + 4 + 5


def test_merge_undoes_partition():
  selected, rest = P.partition(tree(), TEMPORAL)
  assert set(P.names(selected)) == {'down0/temporal_conv/bias', 'temporal_middle/kernel'}
  assert set(P.names(rest)) == {'down0/conv/kernel'}
  same(P.merge(rest, selected), tree())
  selected, rest = P.partition(tree(), ('.*',))
  assert rest == {}
  same(selected, tree())


def test_a_pattern_without_parameters_is_named():
  with pytest.raises(
    ValueError, match=r"match no parameter: \['tempral.*'\].*\n.*\n  down0/conv/kernel"
  ):
    P.partition(tree(), (*TEMPORAL, 'tempral.*'))


def test_parts_may_not_share_a_name():
  with pytest.raises(ValueError, match='present in two parts:\n  temporal_middle/kernel'):
    P.merge(tree(), {'temporal_middle': {'kernel': jnp.zeros(5)}})


def test_what_is_transplanted_is_the_sources_except_the_new():
  spatial = P.partition(tree(7.0), TEMPORAL)[1]
  grown = P.transplant(spatial, tree(), new=TEMPORAL)
  same(P.partition(grown, TEMPORAL)[0], P.partition(tree(), TEMPORAL)[0])
  same(P.partition(grown, TEMPORAL)[1], spatial)


def test_all_that_does_not_fit_is_listed():
  source = {'down0': {'conv': {'kernel': jnp.zeros((2, 3))}}, 'other': {'bias': jnp.zeros(1)}}
  with pytest.raises(ValueError, match='does not fit') as error:
    P.transplant(source, tree(), new=(r'down0/temporal.*',))
  assert str(error.value).splitlines()[1:] == [
    'In the target only, and not declared new:',
    '  temporal_middle/kernel',
    'In the source only:',
    '  other/bias',
    'Different shapes:',
    '  down0/conv/kernel: (2, 3) -> (3, 2)',
  ]


def test_a_blend_goes_from_one_to_the_other():
  a, b = tree(1.0), tree(5.0)
  same(P.blend(a, b, 0.0), a)
  same(P.blend(a, b, 1.0), b)
  np.testing.assert_allclose(P.blend(a, b, 0.25)['down0']['conv']['kernel'], 2.0)
  same(P.blend(a, b, 3.0)['temporal_middle'], {'kernel': jnp.full(5, 26.0)})  # and beyond


def test_a_blend_may_be_of_some():
  a, b = tree(1.0), tree(5.0)
  mixed = P.blend(a, b, 1.0, only=TEMPORAL)
  same(mixed['down0']['conv'], a['down0']['conv'])
  same(mixed['temporal_middle'], b['temporal_middle'])


def test_trees_to_blend_have_the_same_names():
  with pytest.raises(ValueError, match=r'In the target only, .*:\n  temporal_middle/kernel'):
    P.blend(tree(), {'down0': tree()['down0']}, 0.5)


def test_kernels_are_held_as_a_network_uses_them():
  model, example = STUNet(**SMALL, dtype='bfloat16'), inputs(frames=2)
  params = random_params(jax.eval_shape(model.init, jax.random.key(0), *example)['params'])
  apply = jax.jit(lambda params: model.apply({'params': params}, *example))
  small = P.cast_kernels(params, 'bfloat16')
  np.testing.assert_array_equal(apply(small), apply(params))
  kinds = {name.rsplit('/', 1)[-1]: p.dtype for name, p in P.names(small).items()}
  assert kinds['kernel'] == jnp.bfloat16
  assert {str(kind) for name, kind in kinds.items() if name != 'kernel'} == {'float32'}
