"""The temporal blocks: what they are at initialisation, and their definitions in numpy."""

import jax
import numpy as np
import pytest

from stunet.temporal import (
  EMBEDDING_FEATURES,
  TemporalAttention,
  TemporalConv,
  TemporalDown,
  TemporalUp,
  cosines,
  frame_positions,
)
from tests import oracles
from tests.oracles import dense, fresh, layer, relative_error

RNG = np.random.default_rng(0)
GROUPS = 4
EMB = RNG.normal(size=(2, 5)).astype(np.float32)
FLOAT = 'float32'


def clip(t, c=8, size=4):
  return RNG.normal(size=(2, t, size, size, c)).astype(np.float32)


def still(t):
  return np.repeat(clip(1), t, 1)


@pytest.mark.parametrize('stride', [2, 3])
def test_resampling_is_nearest_neighbour_at_initialisation(stride):
  x = clip(6)
  down, up = TemporalDown(stride, FLOAT), TemporalUp(stride, FLOAT)
  output = lambda module: jax.jit(module.apply)({'params': fresh(module, x)}, x)
  np.testing.assert_array_equal(output(down), x[:, ::stride])
  np.testing.assert_array_equal(output(up), np.repeat(x, stride, 1))


@pytest.mark.parametrize('stride', [2, 3])
def test_resampling_is_a_conv_then_a_stride_and_a_repetition_then_a_conv(stride):
  x = clip(6)
  p, got = layer(TemporalDown(stride, FLOAT), x)
  want = oracles.conv1d(x, p['conv1d'])[:, ::stride]
  assert relative_error(got(x), want) < 1e-6
  p, got = layer(TemporalUp(stride, FLOAT), x)
  want = oracles.conv1d(np.repeat(x, stride, 1), p['conv1d'])
  assert relative_error(got(x), want) < 1e-6


CONV = TemporalConv(GROUPS, 'silu', FLOAT)
ATTENTION = TemporalAttention(4, GROUPS, 'silu', FLOAT)


@pytest.mark.parametrize('emb', [None, EMB], ids=['no embedding', 'embedding'])
@pytest.mark.parametrize('module', [CONV, ATTENTION], ids=['conv', 'attention'])
def test_a_block_is_the_identity_at_initialisation(module, emb):
  inputs = clip(3), emb
  got = jax.jit(module.apply)({'params': fresh(module, *inputs)}, *inputs)
  np.testing.assert_array_equal(got, inputs[0])


def modulated(x, p, waves):
  """Scaled and shifted by the embedding times the position of each of three frames."""
  emb = dense(oracles.ACTIVATIONS['silu'](EMB), p['emb'])[:, None]
  emb = dense(emb * (positions(3, EMBEDDING_FEATURES) @ p['frames']['kernel']), p['places'])
  emb = emb.reshape(2, 3, waves**2, 2, 8)
  y = np.empty(x.shape)
  for row, column in np.ndindex(4, 4):
    down, across = np.pi * (np.array([row, column]) + 0.5) / 4
    cosines = [np.cos(i * down) * np.cos(j * across) for i, j in np.ndindex(waves, waves)]
    scale, shift = np.einsum('btksc,k->sbtc', emb, np.array(cosines) / ((waves + 1) / 2))
    y[:, :, row, column] = x[:, :, row, column] * (1 + scale) + shift
  return y


def scale(x, emb):
  """The scale of the residual: 1 as in Fig. 4, or each frame's RMS where there is an embedding."""
  return 1 if emb is None else np.sqrt(np.square(x).mean((2, 3, 4), keepdims=True))


@pytest.mark.parametrize('waves', [1, 3, 4])
def test_squared_cosines_average_to_one_and_the_first_is_constant(waves):
  places = np.asarray(cosines(waves, 8, 16))
  assert np.ptp(places[0]) == 0
  np.testing.assert_allclose((places**2).sum(0).mean(), 1, rtol=1e-6)


@pytest.mark.parametrize('emb', [None, EMB], ids=['no embedding', 'embedding'])
def test_temporal_conv_is_figure_4b(emb):
  x = 30 * clip(3)
  p, got = layer(CONV, x, emb)
  act = oracles.ACTIVATIONS['silu']
  h = np.stack([oracles.conv2d(x[:, t], p['conv2d']) for t in range(3)], 1)
  h = act(oracles.frame_norm(h, p['norm1'], GROUPS))
  h = oracles.frame_norm(oracles.conv1d(h, p['conv1d']), p['norm2'], GROUPS)
  if emb is not None:
    h = modulated(h, p['modulation'], 3)
  assert relative_error(got(x, emb), x + scale(x, emb) * dense(act(h), p['proj'])) < 1e-5


@pytest.mark.parametrize('emb', [None, EMB], ids=['no embedding', 'embedding'])
def test_temporal_attention_is_figure_4c(emb):
  x, t = 30 * clip(3), 3
  p, got = layer(ATTENTION, x, emb)
  y = oracles.frame_norm(x, p['norm'], GROUPS)
  if emb is not None:
    y = modulated(y, p['modulation'], 1)
  attended = np.zeros(y.shape)
  for i, j in np.ndindex(4, 4):
    pixel = y[:, :, i, j] + positions(t, 8)
    query, key, value = (dense(pixel, p[k]) for k in ('query', 'key', 'value'))
    attended[:, :, i, j] = oracles.attention(query, key, value, heads=2)
  assert relative_error(got(x, emb), x + scale(x, emb) * dense(attended, p['proj'])) < 1e-5


def positions(t, d):
  angles = [[i / 10_000 ** (2 * k / d) for k in range(d // 2)] for i in range(t)]
  return np.concatenate([np.sin(angles), np.cos(angles)], -1)


def test_a_frame_is_encoded_by_its_index_whatever_the_length():
  np.testing.assert_allclose(frame_positions(20, 6), positions(20, 6), atol=1e-5)
  np.testing.assert_allclose(frame_positions(80, 6)[:20], positions(20, 6), atol=1e-5)


def test_every_fourth_frame_has_the_position_that_it_has_in_the_whole_clip():
  np.testing.assert_allclose(frame_positions(20, 6, 4), positions(80, 6)[::4], atol=1e-5)
  x = clip(3)
  for module in (CONV, ATTENTION):
    p, got = layer(module, x, EMB)
    sparse = module.clone(frame_step=4)
    assert relative_error(got(x, EMB), jax.jit(sparse.apply)({'params': p}, x, EMB)) > 1e-3


@pytest.mark.parametrize('module', [
  CONV, TemporalDown(2, FLOAT), TemporalUp(2, FLOAT),
], ids=lambda module: type(module).__name__)  # fmt: skip
def test_a_static_clip_stays_static_under_trained_convolutions(module):
  x = still(4)
  got = layer(module, x)[1](x)
  assert relative_error(got[:, :1], x[:, :1]) > 0.1  # it is not the identity
  assert relative_error(got, np.repeat(got[:, :1], got.shape[1], 1)) < 1e-6


def test_spatial_norms_see_one_frame_alone():
  """A frame of large values does not change the others, as it would in a norm over the clip."""
  x = clip(5)
  _, conv = layer(CONV, x)
  large = np.concatenate([100 * x[:, :1], x[:, 1:]], 1)
  change = np.abs(conv(x) - conv(large)).max((0, 2, 3, 4))
  np.testing.assert_array_equal(change[2:], 0)  # the convolution reaches one frame further
  assert change[1] > 0


def test_attention_sees_one_pixel_of_one_clip_in_all_frames():
  x = clip(3)
  _, attend = layer(TemporalAttention(4, 8, 'silu', FLOAT), x)  # a norm of each channel by itself
  other = x.copy()
  other[1, 2, 0, 3] *= -1
  change = attend(x) - attend(other)
  np.testing.assert_array_equal(change[0], 0)
  assert np.abs(change[1, :, 0, 3]).min() > 0
