import itertools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.params import names
from evaluation import published, weights
from evaluation.c3d import C3D, preprocess
from evaluation.features import NETWORKS, shapes
from tests.evaluation import drawn
from tests.oracles import compiled, relative_error

RECORDED = pathlib.Path(__file__).parent / 'recorded' / 'c3d.npz'
SMALL = C3D(channels=(8, 16, 24, 32, 40), hidden=48)
CLIP = (2, 16, 48, 40, 3)
MEAN = drawn.normal('mean', (3, 16, 128, 171))


@pytest.fixture(scope='module')
def ours():
  return shapes(SMALL, jnp.zeros(CLIP))


def stored(tmp_path, rename=lambda named: named):
  """TGAN's two files: the weights, and the mean."""
  named = drawn.weights(drawn.recorded(RECORDED)[0])
  np.savez(tmp_path / 'weights.npz', **rename(named))
  np.savez(tmp_path / 'mean.npz', mean=MEAN)
  return f'{tmp_path}/weights.npz,{tmp_path}/mean.npz'


def test_logits_are_those_of_torch_without_the_mean(ours, tmp_path):
  params, _ = weights.load(ours, published.C3D, stored(tmp_path))
  got = compiled(SMALL.apply)({'params': params}, jnp.asarray(drawn.normal('video', CLIP)))
  assert relative_error(got, drawn.recorded(RECORDED)[1]) <= 1e-5


def test_the_last_layer_is_of_what_it_sees(ours):
  params = weights.draw(ours, 0)
  params = {'params': weights.nest(params)}
  apply = compiled(
    lambda params, x: (SMALL.apply(params, x), SMALL.apply(params, x, method='embed'))
  )
  logits, seen = apply(params, jnp.asarray(drawn.normal('video', CLIP)))
  fc8 = params['params']['fc8']
  assert seen.shape == (2, 48)
  known = np.asarray(seen) @ fc8['kernel'] + fc8['bias']
  np.testing.assert_allclose(logits, known, rtol=1e-4, atol=1e-4)


def test_weights_of_chainer_are_the_same(ours, tmp_path):
  one, _ = weights.load(ours, published.C3D, stored(tmp_path))
  two, _ = weights.load(ours, published.C3D, stored(tmp_path, drawn.as_chainer))
  assert names(one).keys() == names(two).keys() == ours.keys()
  for name, array in names(one).items():
    np.testing.assert_array_equal(array, names(two)[name], err_msg=name)


def test_weights_without_the_mean_are_refused(ours, tmp_path):
  source, _ = stored(tmp_path).split(',')
  with pytest.raises(ValueError, match=r'weights\.npz lacks mean: nearest are .* of c3d-pytorch'):
    weights.load(ours, published.C3D, source)


def test_the_network_is_as_large_as_published():
  """Eight convolutions of 3x3x3, and dense layers of 8192, 4096 and 4096 (Tran et al., Fig. 3)."""
  of = NETWORKS['c3d']
  sizes = shapes(of.model, *of.examples)
  widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
  kernels = sorted(s for name, s in sizes.items() if re.fullmatch(r'conv.*/kernel', name))
  assert kernels == sorted((3, 3, 3, a, b) for a, b in itertools.pairwise(widths))
  assert [sizes[f'fc{i}/kernel'] for i in (6, 7, 8)] == [(8192, 4096), (4096, 4096), (4096, 101)]


def test_other_numbers_of_frames_are_refused():
  with pytest.raises(ValueError, match=r'^Got videos of 15 frames; C3D takes 16\.'):
    SMALL.init(jax.random.key(0), jnp.zeros((1, 15, 48, 40, 3)))


@pytest.mark.parametrize(('height', 'width'), [(128, 171), (128, 128), (171, 128)])
def test_the_middle_is_cut_out_with_blue_first(height, width):
  video = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
  top, left = (height - 112) // 2, (width - 112) // 2
  known = video[:, top : top + 112, left : left + 112, [2, 1, 0]]
  np.testing.assert_allclose(preprocess(video), known, atol=1e-3)


def test_frames_of_four_to_three_have_the_size_of_the_mean():
  """240 x 320 become 128 x 171, of which the middle column is number 85."""
  video = np.zeros((1, 240, 320, 3), np.uint8)
  video[..., 0] = np.linspace(0, 255, 320)
  got = preprocess(video)[0, 0, :, 2]
  at = np.clip((np.arange(29, 29 + 112) + 0.5) * 320 / 171 - 0.5, 0, 319)
  np.testing.assert_allclose(got, np.interp(at, np.arange(320), video[0, 0, :, 0]), atol=1e-3)
