"""Every layer against its definition in numpy, on random weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import repeat

from stunet.layers import (
  Attention,
  AttentionPooling,
  GroupNorm,
  ResBlock,
  TimeEmbedding,
  embed_time,
)
from tests import oracles
from tests.oracles import ACTIVATIONS, dense, layer, random_params, relative_error

RNG = np.random.default_rng(0)
GROUPS = 4


def normal(*shape):
  return RNG.normal(size=shape).astype(np.float32)


TEXT = normal(2, 5, 8)
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 1, 1]], bool)
NO_TEXT = np.zeros_like(MASK)
KEY_VALUE = ('key', 'value')


def frames(b, c):
  return normal(b, 4, 4, c)


def waves(t, d):
  step = 1000 * np.asarray(t) - 1
  frequencies = [10_000 ** (-2 * i / d) for i in range(d // 2)]
  angles = [[s * f for f in frequencies] for s in step]
  return np.concatenate([np.cos(angles), np.sin(angles)], -1)


def test_the_first_step_of_a_thousand_is_embedded_as_zero_and_all_by_their_number():
  t = jnp.array([0.001, 0.25, 1.0])
  np.testing.assert_allclose(embed_time(t, 8), waves([0.001, 0.25, 1.0], 8), atol=2e-4)
  np.testing.assert_allclose(embed_time(t, 8)[0], [1] * 4 + [0] * 4, atol=1e-5)


def test_time_embedding():
  t = np.array([0.1, 0.7], np.float32)
  p, got = layer(TimeEmbedding(8, 6, 'silu', 'float32'), t)
  want = dense(ACTIVATIONS['silu'](dense(waves(t, 8), p['dense1'])), p['dense2'])
  assert relative_error(got(t), want) < 1e-4  # a time's float32 has as much


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float32', 3e-6), ('bfloat16', 4e-3)])
def test_group_norm_is_that_of_flax(dtype, tolerance):
  rng = np.random.default_rng(0)
  x = jnp.asarray(3 + rng.normal(size=(2, 4, 5, 8)), dtype)
  mask = jnp.asarray(rng.random((2, 4, 5)) < 0.7)
  scale, shift = (jnp.asarray(rng.normal(size=(2, 8)), jnp.float32) for _ in range(2))
  params = random_params(jax.eval_shape(GroupNorm(4, dtype).init, jax.random.key(0), x)['params'])
  got = GroupNorm(4, dtype).apply({'params': params}, x, scale, shift, mask)
  flax = nn.GroupNorm(4, epsilon=1e-5).bind({'params': params})
  want = flax(x.astype(jnp.float32), mask=jnp.broadcast_to(mask[..., None], x.shape))
  want = want * (1 + scale[:, None, None]) + shift[:, None, None]
  assert got.dtype == dtype
  assert relative_error(got, want) < tolerance


@pytest.mark.parametrize(
  ('rescale', 'features', 'activation', 'scale'),
  [(0, 8, 'gelu', 1.0), (-1, 8, 'silu', 0.5**0.5), (1, 12, 'gelu', 0.5**0.5)],
)
def test_resblock(rescale, features, activation, scale):
  x, emb = frames(3, 8), normal(3, 5)
  block = ResBlock(features, GROUPS, activation, 'float32', scale, rescale)
  p, got = layer(block, x, emb)
  act = ACTIVATIONS[activation]

  def rescaled(x):
    if rescale < 0:
      return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
    return x.repeat(2, 1).repeat(2, 2) if rescale > 0 else x

  h = oracles.conv2d(rescaled(act(oracles.group_norm(x, p['norm1'], GROUPS))), p['conv1'])
  by, plus = np.split(dense(emb, p['emb'])[:, None, None], 2, -1)
  h = act(oracles.group_norm(h, p['norm2'], GROUPS) * (1 + by) + plus)
  h = oracles.conv2d(h, p['conv2'])
  skip = oracles.conv2d(rescaled(x), p['skip']) if features != 8 else rescaled(x)
  assert relative_error(got(x, emb), (skip + h) * scale) < 1e-5


@pytest.mark.parametrize('joint', [True, False])
@pytest.mark.parametrize('mask', [MASK, NO_TEXT], ids=['text', 'no text'])
def test_attention(joint, mask):
  x, t = frames(4, 8), 2  # two frames of each of two clips
  module = Attention(4, GROUPS, joint, 'float32')
  p, got = layer(module, x, TEXT, mask)
  text = np.zeros(TEXT.shape)
  for i, heard in enumerate(mask):
    if heard.any():  # the norm counts only what is heard
      text[i, heard] = oracles.group_norm(TEXT[i : i + 1, heard], p['norm_text'], GROUPS)[0]
  y = oracles.group_norm(x, p['norm'], GROUPS).reshape(4, 16, 8)
  tokens = [dense(repeat(text, 'b n d -> (b t) n d', t=t), p[f'text_{k}']) for k in KEY_VALUE]
  keep = repeat(mask, 'b n -> (b t) n', t=t)
  if joint:
    tokens = [np.concatenate([a, dense(y, p[k])], 1) for a, k in zip(tokens, KEY_VALUE)]
    keep = np.pad(keep, [(0, 0), (0, 16)], constant_values=True)
  if keep.any():
    answer = oracles.attention(dense(y, p['query']), *tokens, heads=2, mask=keep)
  else:
    answer = np.zeros_like(y)
  want = x + dense(answer, p['proj']).reshape(x.shape)
  assert relative_error(got(x, TEXT, mask), want) < 1e-5


@pytest.mark.parametrize('mask', [MASK, NO_TEXT], ids=['text', 'no text'])
def test_attention_pooling(mask):
  p, got = layer(AttentionPooling(6, 2, 'float32'), TEXT, mask)
  x = oracles.layer_norm(TEXT, p['norm_in'])
  mean = [row[keep].mean(0) if keep.any() else np.zeros(8) for row, keep in zip(x, mask)]
  query = np.stack(mean)[:, None] + p['position']
  tokens = np.concatenate([query, x], 1)
  keep = np.pad(mask, [(0, 0), (1, 0)], constant_values=True)
  answer = oracles.attention(
    *(dense(z, p[k]) for z, k in ((query, 'query'), (tokens, 'key'), (tokens, 'value'))),
    heads=2, mask=keep,
  )  # fmt: skip
  want = oracles.layer_norm(dense(answer[:, 0], p['proj']), p['norm_out'])
  assert relative_error(got(TEXT, mask), want) < 1e-5


@pytest.mark.parametrize('module', [
  Attention(4, GROUPS, True, 'float32'), Attention(4, GROUPS, False, 'float32'),
  AttentionPooling(6, 2, 'float32'),
], ids=['joint', 'cross', 'pooling'])  # fmt: skip
def test_a_masked_token_changes_nothing(module):
  before = (frames(4, 8),) if isinstance(module, Attention) else ()
  _, answer = layer(module, *before, TEXT, MASK)
  noise = 100 * normal(*TEXT.shape)
  want = answer(*before, TEXT, MASK)
  masked = answer(*before, np.where(MASK[..., None], TEXT, noise), MASK)
  others = answer(*before, np.where(MASK[..., None], noise, TEXT), MASK)
  np.testing.assert_array_equal(masked, want)
  assert relative_error(others, want) > 0.01
