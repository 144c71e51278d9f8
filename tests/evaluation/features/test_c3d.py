import itertools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.params import names
from evaluation.features import published, weights
from evaluation.features.c3d import C3D, preprocess
from evaluation.features.networks import NETWORKS, parameter_shapes
from tests.evaluation.features import drawn
from tests.oracles import relative_error

RECORDED = pathlib.Path(__file__).parent / 'recorded' / 'c3d.npz'
SMALL = C3D(channels=(8, 16, 24, 32, 40), hidden=48)
CLIP = (2, 16, 48, 40, 3)
MEAN = drawn.normal('mean', (3, 16, 128, 171))


@pytest.fixture(scope='module')
def ours():
  return parameter_shapes(SMALL, jnp.zeros(CLIP))


def stored(tmp_path, rename=lambda named: named):
  """TGAN's two files: the weights, and the mean."""
  named = drawn.weights(drawn.recorded(RECORDED)[0])
  np.savez(tmp_path / 'weights.npz', **rename(named))
  np.savez(tmp_path / 'mean.npz', mean=MEAN)
  return f'{tmp_path}/weights.npz,{tmp_path}/mean.npz'


def test_logits_are_those_of_torch_without_the_mean(ours, tmp_path):
  params, _ = weights.load(ours, published.C3D, stored(tmp_path))
  got = jax.jit(SMALL.apply)({'params': params}, jnp.asarray(drawn.normal('video', CLIP)))
  assert relative_error(got, drawn.recorded(RECORDED)[1]) <= 1e-5


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
  spec = NETWORKS['c3d']
  sizes = parameter_shapes(spec.model, *spec.examples)
  widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
  kernels = sorted(s for name, s in sizes.items() if re.fullmatch(r'conv.*/kernel', name))
  assert kernels == sorted((3, 3, 3, a, b) for a, b in itertools.pairwise(widths))
  assert [sizes[f'fc{i}/kernel'] for i in (6, 7, 8)] == [(8192, 4096), (4096, 4096), (4096, 101)]


def test_other_numbers_of_frames_are_refused():
  with pytest.raises(ValueError, match=r'^Got videos of 15 frames; C3D takes 16\.'):
    SMALL.init(jax.random.key(0), jnp.zeros((1, 15, 48, 40, 3)))


@pytest.mark.parametrize(('height', 'width'), [(112, 150), (112, 112), (150, 112)])
def test_the_middle_square_is_taken_with_blue_first(height, width):
  video = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
  top, left = (height - 112) // 2, (width - 112) // 2
  known = video[:, top : top + 112, left : left + 112, [2, 1, 0]]
  np.testing.assert_allclose(preprocess(video), known, atol=1e-3)


@pytest.mark.parametrize('side', [64, 128, 256])
def test_corners_stay_and_what_is_between_is_even(side):
  """As chainer's resize_images: place i of 112 is i (side - 1) / 111."""
  video = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
  got, place = preprocess(video)[0], np.arange(112) * (side - 1) / 111
  np.testing.assert_allclose(got[0, 0], video[0, 0, 0, ::-1])
  np.testing.assert_allclose(got[-1, -1], video[0, -1, -1, ::-1])
  known = np.interp(place, np.arange(side), video[0, 0, :, 0])
  np.testing.assert_allclose(got[0, :, 2], known, atol=0.01)
  known = np.interp(place, np.arange(side), video[0, :, 0, 0])
  np.testing.assert_allclose(got[:, 0, 2], known, atol=0.01)
