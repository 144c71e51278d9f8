"""The encoder of T5 v1.1 (Raffel et al., 2020), the text encoder of Imagen and DeepFloyd IF.

Its layers have no biases, except a relative position bias of attention.  Its feed-forward layers
are gated by a GELU (Shazeer, 2020).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
from einops import rearrange

from core.params import names
from core.typing import Bool, Float, Int


class T5Encoder(nn.Module):
  """Embeds tokens.  The comment beside each size is its name in the `config.json` of transformers.

  The residual stream is float32 whatever `dtype` is: its values grow to thousands, and a layer of
  the largest model adds a few.
  """

  vocabulary: int  # vocab_size
  width: int  # d_model
  heads: int  # num_heads
  head_features: int  # d_kv
  hidden: int  # d_ff
  layers: int  # num_layers
  buckets: int = 32  # relative_attention_num_buckets
  max_distance: int = 128  # relative_attention_max_distance
  epsilon: float = 1e-6  # layer_norm_epsilon
  dtype: str = 'float32'  # of matrix products and of the result; norms and softmax are float32

  @nn.compact
  def __call__(self, tokens: Int['b n'], mask: Bool['b n']) -> Float['b n d']:
    """The embedding of each token, which attends only to tokens whose mask is true."""
    positions = np.arange(tokens.shape[1])
    distance = bucket(positions[None] - positions[:, None], self.buckets, self.max_distance)
    # All layers share the position bias (Raffel et al., Sec. 2.1).
    bias = nn.Embed(self.buckets, self.heads, name='distance')(distance)
    bias = rearrange(bias, 'q k m -> 1 m q k')
    x = nn.Embed(self.vocabulary, self.width, name='embed')(tokens).astype(jnp.float32)
    sizes = (self.width, self.heads, self.head_features, self.hidden)
    for i in range(self.layers):
      x = _Layer(*sizes, self.epsilon, self.dtype, name=f'layer{i}')(x, bias, mask)
    return nn.RMSNorm(self.epsilon, dtype=self.dtype, name='norm_out')(x)


class _Layer(nn.Module):
  width: int
  heads: int
  head_features: int
  hidden: int
  epsilon: float
  dtype: str

  @nn.compact
  def __call__(self, x: Float['b n d'], bias: Float['1 m n n'], mask: Bool['b n']):
    y = self._norm('norm_attention')(x)
    query, key, value = (self._per_head(name)(y) for name in ('query', 'key', 'value'))
    # T5 has the usual scale in its initialisation instead.
    y = jax.nn.dot_product_attention(
      query, key, value, bias=bias, mask=mask[:, None, None], scale=1.0
    )
    x = x + self._dense(self.width, 'out')(rearrange(y, 'b n m k -> b n (m k)'))
    y = self._norm('norm_dense')(x)
    gate = nn.gelu(self._dense(self.hidden, 'gate')(y), approximate=True)
    return x + self._dense(self.width, 'narrow')(gate * self._dense(self.hidden, 'wide')(y))

  def _norm(self, name):
    return nn.RMSNorm(self.epsilon, dtype=self.dtype, name=name)

  def _dense(self, features, name):
    return nn.Dense(features, use_bias=False, dtype=self.dtype, name=name)

  def _per_head(self, name):
    dense = self._dense(self.heads * self.head_features, name)
    return lambda y: rearrange(dense(y), 'b n (m k) -> b n m k', m=self.heads)


def bucket(
  distance: jaxtyping.Int[np.ndarray, '*s'], buckets: int, max_distance: int
) -> jaxtyping.Int[np.ndarray, '*s']:
  """The index of the bucket of each distance (Raffel et al., Sec. 2.1).

  The upper half of the buckets is for later tokens, at distances above 0.  In each half, the first
  half of the buckets has one for each distance; the width of the others grows logarithmically up to
  `max_distance`, and the last contains all larger distances.
  """
  half, exact = buckets // 2, buckets // 4
  offset, distance = half * (distance > 0), np.abs(distance)
  # The edges of buckets depend on rounding, so dtype and order are those of the original code.
  far = np.log(np.maximum(distance, exact).astype(np.float32) / np.float32(exact))
  far = far / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)
  far = np.minimum(exact + far.astype(np.int64), half - 1)
  return offset + np.where(distance < exact, distance, far)


def shapes(model: T5Encoder) -> dict[str, tuple[int, ...]]:
  """The shapes of the model's parameters, by name."""
  one = model.clone(
    layers=1
  )  # all layers have the same shapes, and tracing 24 of them takes seconds
  tokens, mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
  params = names(jax.eval_shape(one.init, jax.random.key(0), tokens, mask)['params'])
  first = {name: p.shape for name, p in params.items() if name.startswith('layer0/')}
  layers = {
    name.replace('layer0', f'layer{i}', 1): shape
    for i in range(model.layers)
    for name, shape in first.items()
  }
  return {name: p.shape for name, p in params.items() if name not in first} | layers
