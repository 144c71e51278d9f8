"""CLIP (Radford et al., 2021) embeds images and texts, near to each other where they agree."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image

from core.typing import Float, Int
from evaluation.features.clip_tokenizer import TOKENS, VOCABULARY

SIZE = 224  # the side of images, in pixels
EPSILON = 1e-5  # of LayerNorm
PREPARED = 'shorter side 224, bicubic with antialiasing; centre 224x224; less mean, over deviation'
# The statistics of images in 0..1, by channel (`preprocess` of github.com/openai/CLIP).
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


class CLIP(nn.Module):
  """The image tower and the text tower, both pre-norm transformers (Radford et al., Table 20)."""

  features: int
  width: int
  layers: int
  heads: int
  patch: int
  text_width: int
  text_layers: int
  text_heads: int
  vocabulary: int = VOCABULARY

  def setup(self):
    """The towers, and the logarithm of the scale of cosines."""
    image = self.width, self.layers, self.heads
    text = self.text_width, self.text_layers, self.text_heads
    self.image = _Image(self.features, *image, patch=self.patch, name='image')
    self.text = _Text(self.features, *text, vocabulary=self.vocabulary, name='text')
    self.log_scale = self.param('log_scale', nn.initializers.constant(np.log(1 / 0.07)), ())

  def __call__(
    self, images: Float['n h w 3'], tokens: Int['m k']
  ) -> tuple[Float['n d'], Float['m d']]:
    """Both embeddings."""
    return self.image(images), self.text(tokens)

  def embed_images(self, images: Float['n h w 3']) -> Float['n d']:
    """The embeddings of images from `preprocess`."""
    return self.image(images)

  def embed_texts(self, tokens: Int['m k']) -> Float['m d']:
    """The embeddings of texts, whose greatest token is the end of the text."""
    return self.text(tokens)


class _Image(nn.Module):
  """A vision transformer; the embedding is its class token (Dosovitskiy et al., 2021)."""

  features: int
  width: int
  layers: int
  heads: int
  patch: int

  @nn.compact
  def __call__(self, images: Float['n h w 3']) -> Float['n d']:
    size = (self.patch,) * 2
    patch = nn.Conv(self.width, size, size, padding='VALID', use_bias=False, name='patch')
    x = rearrange(patch(images), 'n h w d -> n (h w) d')
    first = self.param('class_embedding', nn.initializers.normal(), (self.width,))
    first = jnp.broadcast_to(first[None, None], (len(x), 1, self.width))
    x = jnp.concatenate([first, x], 1)
    x = x + nn.Embed(x.shape[1], self.width, name='position').embedding[None]
    x = nn.LayerNorm(EPSILON, name='norm_in')(x)
    for i in range(self.layers):
      x = _Layer(self.width, self.heads, name=f'layer{i}')(x)
    x = nn.LayerNorm(EPSILON, name='norm_out')(x[:, 0])
    return nn.Dense(self.features, use_bias=False, name='project')(x)


class _Text(nn.Module):
  """A causal transformer; the embedding is the token at the end of the text."""

  features: int
  width: int
  layers: int
  heads: int
  vocabulary: int

  @nn.compact
  def __call__(self, tokens: Int['n k']) -> Float['n d']:
    n, k = tokens.shape
    position = nn.Embed(TOKENS, self.width, name='position').embedding
    x = nn.Embed(self.vocabulary, self.width, name='token')(tokens) + position[None, :k]
    for i in range(self.layers):
      x = _Layer(self.width, self.heads, causal=True, name=f'layer{i}')(x)
    x = nn.LayerNorm(EPSILON, name='norm_out')(x[jnp.arange(n), tokens.argmax(1)])
    return nn.Dense(self.features, use_bias=False, name='project')(x)


class _Layer(nn.Module):
  width: int
  heads: int
  causal: bool = False

  @nn.compact
  def __call__(self, x: Float['n k d']) -> Float['n k d']:
    dense = lambda features, name: nn.Dense(features, name=name)
    y = nn.LayerNorm(EPSILON, name='norm_attention')(x)
    y = rearrange(dense(3 * self.width, 'qkv')(y), 'n k (s m d) -> s n k m d', s=3, m=self.heads)
    y = jax.nn.dot_product_attention(*y, is_causal=self.causal)
    x = x + dense(self.width, 'out')(rearrange(y, 'n k m d -> n k (m d)'))
    y = dense(4 * self.width, 'wide')(nn.LayerNorm(EPSILON, name='norm_dense')(x))
    return x + dense(self.width, 'narrow')(y * nn.sigmoid(1.702 * y))  # QuickGELU


B32 = CLIP(512, 768, 12, 12, 32, 512, 12, 8)
L14 = CLIP(768, 1024, 24, 16, 14, 768, 12, 12)


def preprocess(images: UInt8[np.ndarray, 'n h w 3']) -> jaxtyping.Float[np.ndarray, 'n 224 224 3']:
  """The centre of images or frames as OpenAI prepares them: bicubic, antialiased and normalised.

  The shorter side becomes 224, and the longer is rounded down.  Resized pixels are rounded to 8
  bits.
  """
  h, w = images.shape[1:3]
  shorter = min(h, w)
  height, width = (SIZE * n // shorter for n in (h, w))
  # torchvision's CenterCrop rounds halves to even.
  top, left = (round((n - SIZE) / 2) for n in (height, width))
  box = left, top, left + SIZE, top + SIZE
  resized = (
    Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC).crop(box)
    for image in images
  )
  return (np.stack([*map(np.asarray, resized)]).astype(np.float32) / 255 - MEAN) / STD
