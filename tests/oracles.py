"""What networks should compute, written again in numpy and float64, to compare with.

Parameters are the nested dicts of the layer in question.  Nothing here is imported from the code
under test.
"""

import math

import jax
import numpy as np

erf = np.vectorize(math.erf)

ACTIVATIONS = {
  'gelu': lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
  'silu': lambda x: x / (1 + np.exp(-x)),
}


def random_params(shapes, seed=0):
  """Parameters of these shapes, of which none is zero or one as it would be when new."""
  rng = np.random.default_rng(seed)

  def draw(path, p):
    around = 1.0 if path[-1].key == 'scale' else 0.0
    fan_in = max(1, int(np.prod(p.shape[:-1])))
    spread = 0.2 if p.ndim == 1 else fan_in**-0.5
    return jax.numpy.asarray(around + spread * rng.normal(size=p.shape), p.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def layer(module, *inputs, seed=0):
  """A layer of random parameters: these in float64, and the compiled layer, of numpy arrays."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)['params']
  params = random_params(shapes, seed)
  apply = jax.jit(lambda *inputs: module.apply({'params': params}, *inputs))
  float64 = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
  return float64, lambda *inputs: np.asarray(apply(*inputs))


def fresh(module, *inputs, select=lambda params: params):
  """New parameters of a network, or those that `select` returns, without computing the others."""
  inputs = jax.tree.map(jax.numpy.asarray, inputs)
  key = jax.random.key(0, impl='unsafe_rbg')  # which compiles faster
  return jax.jit(lambda key: select(module.init(key, *inputs)['params']))(key)


def relative_error(got, want):
  """|got - want| / |want|"""
  got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
  assert got.shape == want.shape
  return np.linalg.norm(got - want) / np.linalg.norm(want)


def dense(x, p):
  return x @ p['kernel'] + p['bias']


def conv2d(x, p):
  """Over `b h w c`, beyond whose edges there are zeros."""
  rows, columns = p['kernel'].shape[:2]
  h, w = x.shape[1:3]
  x = np.pad(x, [(0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)])
  return p['bias'] + sum(
    x[:, i : i + h, j : j + w] @ p['kernel'][i, j] for i in range(rows) for j in range(columns)
  )


def conv1d(x, p, stride=1):
  """Over the frames of `b t h w c`, beyond whose ends its first and last are repeated."""
  last, frames = x.shape[1] - 1, []
  for t in range(0, last + 1, stride):
    before, after = x[:, max(t - 1, 0)], x[:, min(t + 1, last)]
    kernel = p['conv']['kernel'][:, 0]
    frames.append(before @ kernel[0] + x[:, t] @ kernel[1] + after @ kernel[2])
  return np.stack(frames, 1) + p['conv']['bias']


def group_norm(x, p, groups):
  """Over all axes but the first, and the channels of a group."""
  y = x.astype(np.float64).reshape(len(x), -1, groups, x.shape[-1] // groups)
  mean, var = y.mean((1, 3), keepdims=True), y.var((1, 3), keepdims=True)
  return ((y - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * p['scale'] + p['bias']


def frame_norm(x, p, groups):
  """The group norm of every frame of `b t h w c` by itself."""
  return np.stack([group_norm(x[:, t], p, groups) for t in range(x.shape[1])], 1)


def layer_norm(x, p):
  x = x.astype(np.float64)
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  return (x - mean) / np.sqrt(var + 1e-5) * p['scale'] + p['bias']


def attention(query, key, value, heads, mask=None):
  """Of `b n c`, whose channels are those of one head after the other.  `mask` is of the keys."""
  outputs = []
  for q, k, v in zip(*(np.split(x, heads, -1) for x in (query, key, value))):
    logits = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    if mask is not None:
      logits = np.where(mask[:, None], logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    outputs.append(weights / weights.sum(-1, keepdims=True) @ v)
  return np.concatenate(outputs, -1)
