"""The encoder of T5 v1.1 (Raffel et al., 2020), by which Imagen and DeepFloyd IF read a text.

Nothing in it has a bias but attention, whose bias depends on how far apart two tokens are.  Its
dense layers are gated by a GELU (Shazeer, 2020).
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
  """Embeds tokens.  Beside its sizes are their names in the `config.json` of transformers.

  What layers add up to is float32, of whichever dtype the parameters and products are: it grows to
  thousands, while a layer of the largest model adds a few.
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
  dtype: str = 'float32'  # of products and of the result; norms and softmax are float32

  @nn.compact
  def __call__(self, tokens: Int['b n'], mask: Bool['b n']) -> Float['b n d']:
    """The embedding of each token, which hears those alone where the mask is true."""
    places = np.arange(tokens.shape[1])
    distance = bucket(places[None] - places[:, None], self.buckets, self.max_distance)
    # Of the first layer, and the same in all (Raffel et al., Sec. 2.1).
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
    # T5 leaves out the usual scale: its initialisation has it.
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
  """Which of the buckets a distance is in (Raffel et al., Sec. 2.1).

  The upper half of them is for tokens ahead, of distances above 0.  In each half, the first half
  has a bucket for each distance, and those of the second grow logarithmically up to `max_distance`,
  beyond which all are in the last.
  """
  each, exact = buckets // 2, buckets // 4
  ahead, distance = each * (distance > 0), np.abs(distance)
  # In float32, and in this order, as where models were trained: it decides at the edges of buckets.
  far = np.log(np.maximum(distance, exact).astype(np.float32) / np.float32(exact))
  far = far / np.float32(math.log(max_distance / exact)) * np.float32(each - exact)
  far = np.minimum(exact + far.astype(np.int64), each - 1)
  return ahead + np.where(distance < exact, distance, far)


def shapes(model: T5Encoder) -> dict[str, tuple[int, ...]]:
  """The shapes of its parameters, by name."""
  one = model.clone(layers=1)  # all layers are alike, and tracing 24 of them takes seconds
  tokens, mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
  params = names(jax.eval_shape(one.init, jax.random.key(0), tokens, mask)['params'])
  first = {name: p.shape for name, p in params.items() if name.startswith('layer0/')}
  layers = {
    name.replace('layer0', f'layer{i}', 1): shape
    for i in range(model.layers)
    for name, shape in first.items()
  }
  return {name: p.shape for name, p in params.items() if name not in first} | layers
