"""Encoding and decoding: against recorded outputs of diffusers, by frames, and over devices."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from autoencoder import kl, latents
from autoencoder.network import Autoencoder
from core import files
from core.params import nest
from core.sharding import make_mesh
from tests.evaluation.features import drawn
from tests.oracles import relative_error

RECORDED = pathlib.Path(__file__).parent / 'recorded'
MODEL = kl.model_of(files.read_object(RECORDED / 'config.json'))
KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.fixture(scope='module')
def params():
  shapes, _ = drawn.recorded(RECORDED / 'autoencoder.npz')
  theirs, levels = drawn.weights(shapes), len(MODEL.channels)
  ours = {
    name: kl.from_diffusers(theirs[kl.diffusers_name(name, levels)], shape)
    for name, shape in kl.shapes(MODEL).items()
  }
  return jax.tree.map(jnp.asarray, nest(ours))


def coded(function, at_once):
  return jax.jit(lambda params, x: function(MODEL, params, x, at_once))


def test_moments_and_frames_are_those_of_diffusers(params):
  """Of frames of 27x18 pixels, whose last rows and columns are cut."""
  frames, latent = drawn.normal('frames', (2, 27, 18, 3)), drawn.normal('latents', (2, 5, 3, 4))
  moments = coded(latents.encode, 1)(params, frames[None])[0]
  decoded = coded(latents.decode, 1)(params, MODEL.scaling * latent[None])[0]
  _, known = drawn.recorded(RECORDED / 'autoencoder.npz')
  assert (moments.shape, decoded.shape) == ((2, 6, 4, 8), (2, 20, 12, 3))
  assert relative_error(moments.ravel(), known[: moments.size]) <= 1e-5
  assert relative_error(decoded.ravel(), known[moments.size :]) <= 1e-5


def test_the_size_of_stable_diffusion():
  assert sum(map(math.prod, kl.shapes(Autoencoder()).values())) == 83_653_863
  assert Autoencoder().factor == 8


@pytest.mark.parametrize(('mesh', 'at_once'), [(None, 3), ((('data', 2),), 2),
                                               ((('data', 2), ('time', 4)), 1)])  # fmt: skip
def test_frames_are_the_same_in_any_chunks_and_over_devices(params, mesh, at_once):
  video = jnp.asarray(drawn.normal('latents', (2, 5, 4, 3, 4)))
  one = coded(latents.decode, 1)(params, video)
  if mesh is None:
    many = coded(latents.decode, at_once)(params, video)
  else:
    n = math.prod(size for _, size in mesh)
    with jax.set_mesh(make_mesh(mesh, jax.devices()[:n])) as mesh:
      many = coded(latents.decode, at_once)(params, video)
    assert len(many.sharding.device_set) == n
  assert many.shape == (2, 5, 16, 12, 3)
  assert relative_error(many, one) < 1e-6


def test_memory_does_not_grow_with_the_number_of_frames(params):
  """Beyond that of the input and the output themselves, which are of a hundredth of its size."""

  def temporary(frames, at_once):
    video = jax.ShapeDtypeStruct((1, frames, 8, 8, 4), jnp.float32)
    compiled = coded(latents.decode, at_once).lower(params, video).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  few, many, all_at_once = temporary(8, 2), temporary(32, 2), temporary(32, 32)
  copies = 3 * 24 * (32 * 32 * 3 + 8 * 8 * 4) * 4  # of inputs and outputs of the other frames
  assert many - few <= copies
  assert all_at_once > 2 * many


def test_samples_have_the_mean_and_the_variance(params):
  moments = jnp.full((2, 1, 64, 64, 8), 0.5).at[..., 4:].set(2 * np.log(0.25))
  sampled = latents.sample(MODEL, moments, KEYS)
  np.testing.assert_allclose(latents.mean(MODEL, moments), 0.18215 * 0.5, rtol=1e-6)
  np.testing.assert_allclose(sampled.mean(), 0.18215 * 0.5, atol=2e-3)
  np.testing.assert_allclose(sampled.std(), 0.18215 * 0.25, rtol=0.02)
  assert relative_error(latents.sample(MODEL, moments[:1], KEYS[:1]), sampled[:1]) < 1e-6
  assert not np.array_equal(sampled[0], sampled[1])
  certain = moments.at[..., 4:].set(-1e4)  # diffusers clips the logarithm at -30
  got = latents.sample(MODEL, certain, KEYS) - latents.mean(MODEL, certain)
  np.testing.assert_allclose(got.std(), 0.18215 * np.exp(-15), rtol=0.05)


def test_no_frames_at_once_is_an_error(params):
  with pytest.raises(ValueError, match=r'^Got 0 frames at once; allowed is 1 or more\.$'):
    latents.decode(MODEL, params, jnp.zeros((1, 1, 2, 2, 4)), 0)


def test_products_in_bfloat16_are_near(params):
  video = jnp.asarray(drawn.normal('latents', (1, 1, 4, 3, 4)))
  short = jax.jit(lambda p, x: latents.decode(MODEL.clone(dtype='bfloat16'), p, x, 1))
  got, known = short(params, video), coded(latents.decode, 1)(params, video)
  assert got.dtype == jnp.float32
  assert 1e-4 < relative_error(got, known) < 5e-2
