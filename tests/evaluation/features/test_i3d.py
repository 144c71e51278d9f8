import itertools
import json
import os
import pathlib

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from safetensors.numpy import save_file

from core.params import names
from evaluation.features import published, volume, weights
from evaluation.features.i3d import I3D, preprocess
from evaluation.features.networks import NETWORKS, parameter_shapes
from evaluation.features.resize import resize_shorter_side
from tests.evaluation.features import drawn
from tests.oracles import relative_error

RECORDED = pathlib.Path(__file__).parent / 'recorded' / 'i3d.npz'
CLIP = (2, 17, 37, 42, 3)
RNG = np.random.default_rng(0)
needs_data = pytest.mark.skipif('LUMIERE_DATA' not in os.environ, reason='LUMIERE_DATA is not set')


@pytest.fixture(scope='module')
def named():
  """Drawn weights, with the names of pytorch-i3d."""
  return drawn.weights(drawn.recorded(RECORDED)[0])


@pytest.fixture(scope='module')
def ours():
  return parameter_shapes(I3D(), jnp.zeros((1, 16, 32, 32, 3)))


@pytest.fixture(scope='module')
def params(named, ours, tmp_path_factory):
  path = tmp_path_factory.mktemp('i3d') / 'weights.safetensors'
  save_file(named | {'Mixed_3b.b0.bn.num_batches_tracked': np.array(7)}, path)
  return weights.load(ours, published.I3D, str(path))[0]


def test_logits_are_those_of_torch(params):
  got = jax.jit(I3D().apply)({'params': params}, jnp.asarray(drawn.normal('video', CLIP)))
  assert relative_error(got, drawn.recorded(RECORDED)[1]) <= 1e-5


@pytest.mark.parametrize(
  ('rename', 'same_scale'), [(drawn.as_hassony2, True), (drawn.as_deepmind, False)]
)
def test_weights_of_other_names_are_the_same(rename, same_scale, named, ours, params, tmp_path):
  path = tmp_path / 'weights.safetensors'
  save_file(rename(named), path)
  other = weights.load(ours, published.I3D, str(path))[0]
  expected = names(params)
  assert len(expected) == 287
  for name, array in names(other).items():
    if name.endswith('/scale') and not same_scale:
      assert (array == 1).all()
    else:
      np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_too_few_frames_are_refused(params):
  with pytest.raises(ValueError, match=r'^Got videos of 8 frames; I3D takes 9 or more\.'):
    I3D().apply({'params': params}, jnp.zeros((1, 8, 32, 32, 3)))


@pytest.mark.parametrize('channels', [3, 9])
@pytest.mark.parametrize(('size', 'stride'), [(1, 1), (3, 1), (3, 2), (7, 2)])
def test_a_sum_of_2d_convolutions_is_the_3d_convolution(size, stride, channels):
  x = jnp.asarray(RNG.normal(size=(2, 5, 8, 9, channels)), jnp.float32)
  kernel = jnp.asarray(RNG.normal(size=(*[size] * 3, channels, 4)), jnp.float32)
  known = volume.convolve_3d(x, kernel, stride)
  assert relative_error(volume.convolve_frames(x, kernel, stride), known) <= 1e-6
  assert relative_error(volume.convolve(x, kernel, stride), known) <= 1e-6


@pytest.mark.parametrize(
  ('window', 'stride'),
  [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))],
)
def test_pooling_is_that_of_windows(window, stride):
  x = -jnp.abs(
    jnp.asarray(RNG.normal(size=(2, 5, 8, 9, 3)), jnp.float32)
  )  # padding is never the greatest
  known = lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *stride, 1), 'SAME')
  np.testing.assert_array_equal(volume.max_pool(x, window, stride), known)


def test_what_is_recorded_has_as_many_parameters_as_the_paper_says():
  assert sum(np.prod(s) for s in drawn.recorded(RECORDED)[0].values()) / 1e6 == pytest.approx(
    12,
    rel=0.1,  # million: Carreira & Zisserman, 2017, Table 1, have 12M with 400 classes
  )


@needs_data
@pytest.mark.parametrize(
  'name',
  [
    'torchvision__v_SoccerJuggling_g23_c01.avi',
    'lumiere__text-to-video__hitchiker.mp4',
    'torchcodec__nasa_13013.mp4',
  ],
)
def test_preprocessing_is_that_of_published_fvd(name):
  """What StyleGAN-V's code made of the first 16 frames of a file, as they are decoded."""
  data = pathlib.Path(os.environ['LUMIERE_DATA'])
  with av.open(str(data / 'videos' / name)) as container:
    frames = itertools.islice(container.decode(video=0), 16)  # the first stream, not the best
    video = np.stack([frame.to_ndarray(format='rgb24') for frame in frames])
  got = preprocess(video)
  assert got.shape == (16, 224, 224, 3)
  known = json.loads((data / 'goldens' / 'goldens.json').read_text())['i3d_preprocess'][name]
  assert got.mean() == pytest.approx(known['mean'], rel=1e-5)
  assert got.std() == pytest.approx(known['std'], rel=1e-5)
  with np.load(data / 'goldens' / 'i3d_preprocess.npz') as goldens:
    every = goldens[name].transpose(1, 2, 3, 0).astype(np.float32)
  np.testing.assert_allclose(got[::5], every, atol=2**-11, rtol=0)


@pytest.mark.parametrize(('height', 'width'), [(8, 8), (16, 16), (8, 13), (12, 7), (1, 4), (30, 9)])
def test_a_slope_stays_a_slope(height, width):
  """Bilinear interpolation is exact where pixels lie on a plane, as far as there are pixels."""
  size = 8
  y, x = np.mgrid[:height, :width].astype(float)
  plane = np.stack([5 * y, 7 * x, 3 * y + 2 * x], -1).astype(np.uint8)[None]
  shorter = min(height, width)
  h, w = (size if n == shorter else -(-n * size // shorter) for n in (height, width))
  at = lambda n, full: np.clip(
    (np.arange(size) + (full - size) // 2 + 0.5) * n / full - 0.5, 0, n - 1
  )
  y, x = np.meshgrid(at(height, h), at(width, w), indexing='ij')
  known = np.stack([5 * y, 7 * x, 3 * y + 2 * x], -1)[None]
  np.testing.assert_allclose(resize_shorter_side(plane, size, size), known, atol=1e-4)


def test_all_pixels_are_in_range():
  ends = np.stack([np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 255, np.uint8)])
  got = NETWORKS['i3d'].prepare(ends)
  assert got.shape == (2, 224, 224, 3)
  assert (got[0] == -1).all()
  np.testing.assert_allclose(got[1], 1, atol=1e-6)


def test_a_video_without_frames_is_refused():
  with pytest.raises(ValueError, match=r'^Got a video of 0 frames of 4 x 5 pixels; it has none\.$'):
    preprocess(np.zeros((0, 4, 5, 3), np.uint8))
