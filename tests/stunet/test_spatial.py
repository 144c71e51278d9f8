"""Every block of the image model against its definition in numpy, with random parameters."""

import jax.numpy as jnp
import numpy as np
import pytest
from einops import repeat

from stunet.spatial import Attention, AttentionPooling, ResBlock, TimeEmbedding, embed_time
from stunet.transformer import Transformer
from tests import oracles
from tests.oracles import ACTIVATIONS, dense, layer, relative_error

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


def test_a_time_is_embedded_by_its_index_among_a_thousand_steps():
  t = jnp.array([0.001, 0.25, 1.0])
  np.testing.assert_allclose(embed_time(t, 8), waves([0.001, 0.25, 1.0], 8), atol=2e-4)
  np.testing.assert_allclose(embed_time(t, 8)[0], [1] * 4 + [0] * 4, atol=1e-5)


def test_time_embedding():
  t = np.array([0.1, 0.7], np.float32)
  p, got = layer(TimeEmbedding(8, 6, 'silu', 'float32'), t)
  want = dense(ACTIVATIONS['silu'](dense(waves(t, 8), p['dense1'])), p['dense2'])
  assert relative_error(got(t), want) < 1e-4  # the precision of 1000 t in float32


@pytest.mark.parametrize(
  ('rescale', 'features', 'activation', 'scale'),
  [(0, 8, 'gelu', 1.0), (-1, 8, 'silu', 0.5**0.5), (1, 12, 'gelu', 0.5**0.5)],
)
def test_resblock(rescale, features, activation, scale):
  x, emb = frames(4, 8), normal(2, 5)
  block = ResBlock(features, GROUPS, activation, 'float32', scale, rescale)
  p, got = layer(block, x, emb)
  emb = emb.repeat(2, 0)  # two frames of each of two clips
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
  assert relative_error(got(x, emb[::2]), (skip + h) * scale) < 1e-5


@pytest.mark.parametrize('joint', [True, False])
@pytest.mark.parametrize('mask', [MASK, NO_TEXT], ids=['text', 'no text'])
def test_attention(joint, mask):
  x, t = frames(4, 8), 2  # two frames of each of two clips
  module = Attention(4, GROUPS, joint, 'float32')
  p, got = layer(module, x, TEXT, mask)
  text = np.zeros(TEXT.shape)
  for i, tokens in enumerate(mask):
    if tokens.any():  # masked tokens do not count in the norm's statistics
      text[i, tokens] = oracles.group_norm(TEXT[i : i + 1, tokens], p['norm_text'], GROUPS)[0]
  y = oracles.group_norm(x, p['norm'], GROUPS).reshape(4, 16, 8)
  tokens = [dense(repeat(text, 'b n d -> (b t) n d', t=t), p[f'text_{k}']) for k in KEY_VALUE]
  keep = repeat(mask, 'b n -> (b t) n', t=t)
  if joint:
    tokens = [np.concatenate([a, dense(y, p[k])], 1) for a, k in zip(tokens, KEY_VALUE)]
    keep = np.pad(keep, [(0, 0), (0, 16)], constant_values=True)
  if keep.any():
    attended = oracles.attention(dense(y, p['query']), *tokens, heads=2, mask=keep)
  else:
    attended = np.zeros_like(y)
  want = x + dense(attended, p['proj']).reshape(x.shape)
  assert relative_error(got(x, TEXT, mask), want) < 1e-5


@pytest.mark.parametrize('mask', [MASK, NO_TEXT], ids=['text', 'no text'])
def test_attention_pooling(mask):
  p, got = layer(AttentionPooling(6, 2, 'float32'), TEXT, mask)
  x = oracles.layer_norm(TEXT, p['norm_in'])
  mean = [row[keep].mean(0) if keep.any() else np.zeros(8) for row, keep in zip(x, mask)]
  query = np.stack(mean)[:, None] + p['position']
  tokens = np.concatenate([query, x], 1)
  keep = np.pad(mask, [(0, 0), (1, 0)], constant_values=True)
  attended = oracles.attention(
    *(dense(z, p[k]) for z, k in ((query, 'query'), (tokens, 'key'), (tokens, 'value'))),
    heads=2, mask=keep,
  )  # fmt: skip
  want = oracles.layer_norm(dense(attended[:, 0], p['proj']), p['norm_out'])
  assert relative_error(got(TEXT, mask), want) < 1e-5


@pytest.mark.parametrize('module', [
  Attention(4, GROUPS, True, 'float32'), Attention(4, GROUPS, False, 'float32'),
  Transformer(4, GROUPS, 1, 'conv', 'float32'), AttentionPooling(6, 2, 'float32'),
], ids=['joint', 'cross', 'transformer', 'pooling'])  # fmt: skip
def test_a_masked_token_changes_nothing(module):
  video = () if isinstance(module, AttentionPooling) else (frames(4, 8),)
  _, apply = layer(module, *video, TEXT, MASK)
  noise = 100 * normal(*TEXT.shape)
  want = apply(*video, TEXT, MASK)
  masked = apply(*video, np.where(MASK[..., None], TEXT, noise), MASK)
  others = apply(*video, np.where(MASK[..., None], noise, TEXT), MASK)
  np.testing.assert_array_equal(masked, want)
  assert relative_error(others, want) > 0.01
