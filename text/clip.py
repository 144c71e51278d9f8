"""The text tower of CLIP (Radford et al., 2021), the text encoder of Stable Diffusion.

Scores of CLIP use the same tower and the same layers (`evaluation/features/clip.py`).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from core.params import names
from core.typing import Float, Int
from text.clip_tokenizer import TOKENS, VOCABULARY

EPSILON = 1e-5  # of LayerNorm
ACTIVATIONS = {
  'gelu': lambda x: nn.gelu(x, approximate=False),  # of OpenCLIP
  'quick_gelu': lambda x: x * nn.sigmoid(1.702 * x),  # of OpenAI
}


class CLIPText(nn.Module):
  """A causal transformer over the tokens of a text.

  Norms, softmax and the residual stream are float32 whatever `dtype` is.
  """

  width: int
  layers: int
  heads: int
  vocabulary: int = VOCABULARY
  activation: str = 'quick_gelu'
  dtype: str = 'float32'  # of matrix products and of the result

  @nn.compact
  def __call__(self, tokens: Int['n k']) -> Float['n k d']:
    """The state of each token after the last layer and its norm."""
    position = nn.Embed(TOKENS, self.width, name='position').embedding
    x = nn.Embed(self.vocabulary, self.width, name='token')(tokens)
    x = x.astype(jnp.float32) + position[None, : tokens.shape[1]].astype(jnp.float32)
    for i in range(self.layers):
      layer = Layer(self.width, self.heads, True, self.activation, self.dtype, name=f'layer{i}')
      x = layer(x)
    return nn.LayerNorm(EPSILON, name='norm_out')(x).astype(self.dtype)


class Layer(nn.Module):
  """A pre-norm layer of a transformer, of images or texts."""

  width: int
  heads: int
  causal: bool = False
  activation: str = 'quick_gelu'
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Float['n k d']) -> Float['n k d']:
    """The states after the layer, in the dtype of x."""
    dense = lambda features, name: nn.Dense(features, dtype=self.dtype, name=name)
    y = nn.LayerNorm(EPSILON, name='norm_attention')(x)
    y = rearrange(dense(3 * self.width, 'qkv')(y), 'n k (s m d) -> s n k m d', s=3, m=self.heads)
    y = jax.nn.dot_product_attention(*y, is_causal=self.causal)
    x = x + dense(self.width, 'out')(rearrange(y, 'n k m d -> n k (m d)'))
    y = dense(4 * self.width, 'wide')(nn.LayerNorm(EPSILON, name='norm_dense')(x))
    return x + dense(self.width, 'narrow')(ACTIVATIONS[self.activation](y))


def shapes(model: CLIPText) -> dict[str, tuple[int, ...]]:
  """The shapes of the model's parameters, by name."""
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  params = jax.eval_shape(model.init, jax.random.key(0), tokens)['params']
  return {name: p.shape for name, p in names(params).items()}
