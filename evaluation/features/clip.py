"""CLIP (Radford et al., 2021) embeds images and texts, near to each other where they agree."""

import flax.linen as nn
import jax.numpy as jnp
import jaxtyping
import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image

from core.typing import Float, Int
from text.clip import EPSILON, CLIPText, Layer
from text.clip_tokenizer import VOCABULARY

SIZE = 224  # the side of images, in pixels
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
      x = Layer(self.width, self.heads, name=f'layer{i}')(x)
    x = nn.LayerNorm(EPSILON, name='norm_out')(x[:, 0])
    return nn.Dense(self.features, use_bias=False, name='project')(x)


class _Text(nn.Module):
  """The embedding of a text, which is that of its end."""

  features: int
  width: int
  layers: int
  heads: int
  vocabulary: int

  def setup(self):
    """The tower, whose parameters are in this scope, and the projection."""
    self.states = CLIPText(self.width, self.layers, self.heads, self.vocabulary)
    nn.share_scope(self, self.states)
    self.project = nn.Dense(self.features, use_bias=False, name='project')

  def __call__(self, tokens: Int['n k']) -> Float['n d']:
    return self.project(self.states(tokens)[jnp.arange(len(tokens)), tokens.argmax(1)])


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
