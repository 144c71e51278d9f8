"""The low-resolution video that a super-resolution network is conditioned on: downsampled, blurred
and noised.

Noise conditioning augmentation (Ho et al., 2022, "Cascaded Diffusion Models"; Imagen, Sec. 2.4):
the network is trained on low-resolution videos of every noise level, and conditioned on the level.
So it tolerates what another model gets wrong in the low-resolution videos that it generates.

A noise level is the time in [0, 1] up to which a low-resolution video is noised: 0 adds no noise,
and 1 leaves nothing but noise.  It appears as

  Condition.noise_level               the noise level of each video of a batch
  config.degrade.level                the highest noise level that is drawn in training
  config.sampling.aug_level           the noise level in sampling, which --aug_level overrides
  config.model.noise_level_embedding  whether the network embeds the noise level
"""

import jax
import jax.numpy as jnp
from einops import reduce

from core.condition import Condition
from core.errors import UserError
from core.frame_size import require_multiples
from core.typing import Float, Key, Time, Video
from diffusion.process import Process

# The processes that noise the low-resolution video, whatever process the network itself is trained
# with.  'small' noises the low-resolution frames as they are.  'upsampled' first upsamples them,
# with aligned corners, as DeepFloyd IF does.
AUGMENTATIONS = {
  'small': Process('cosine', 0.0, 'eps'),
  'upsampled': Process('discrete_cosine', 0.0, 'eps'),
}


def make_degrade(*, factor: int, level: float, blur: float, augment: str = 'small'):
  """Returns `degrade(key, x0, batch) -> cond`: the text of a batch, and x0 as the low-resolution
  video.

  factor: how many times smaller the sides of the low-resolution video are.
  level: the highest noise level, in [0, 1]; that of each video is drawn uniformly up to it.
  blur: the highest standard deviation of a Gaussian blur that precedes the noise, in pixels of the
    low-resolution video, drawn likewise; 0 is none.
  augment: which frames the noise is added to, one of `AUGMENTATIONS`.
  """
  if augment not in AUGMENTATIONS:
    raise UserError(f'Unknown augment: {augment!r}.  Allowed: {", ".join(AUGMENTATIONS)}.')
  if factor < 2:
    raise UserError(f'Got a factor of {factor}; allowed is 2 or more.')
  if not 0 <= level <= 1:
    raise UserError(f'Got a level of {level}; allowed is 0 to 1.')
  if blur < 0:
    raise UserError(f'Got a blur of {blur} pixels; allowed is 0 or more.')

  def degrade(key: Key, x0: Video, batch: dict) -> Condition:
    key_level, key_eps, key_blur = jax.random.split(key, 3)
    low_res = downsample(x0, factor)
    if blur:
      low_res = blurred(low_res, blur * jax.random.uniform(key_blur, x0.shape[:1]), reach=blur)
    levels = level * jax.random.uniform(key_level, x0.shape[:1])
    cond = Condition(batch['text'], batch['text_mask'], low_res=low_res)
    eps = jax.random.normal(key_eps, (x0 if augment == 'upsampled' else low_res).shape)
    return augmented(cond, levels, eps, augment)

  return degrade


def augmented(cond: Condition, noise_level: Time, eps: Video, augment: str = 'small') -> Condition:
  """The condition with its low-resolution video noised up to the noise level of each video.

  eps: the noise, of the size of the low-resolution frames, or of that to which they are
    'upsampled'.
  """
  low_res = cond.low_res
  if augment == 'upsampled':
    low_res = upsample_corners(low_res, *eps.shape[2:4])
  noised = AUGMENTATIONS[augment].corrupt(low_res, noise_level, eps)
  return cond.replace(low_res=noised, noise_level=noise_level)


def downsample(video: Video, factor: int) -> Float['b t h2 w2 c']:
  """The mean of every square of `factor` by `factor` pixels."""
  require_multiples(video.shape[2:4], factor)
  return reduce(video, 'b t (h p) (w q) c -> b t h w c', 'mean', p=factor, q=factor)


def upsample(video: Video, height: int, width: int) -> Float['b t {height} {width} c']:
  """The video at another size, by linear interpolation between the centres of pixels."""
  b, t, _, _, c = video.shape
  return jax.image.resize(video, (b, t, height, width, c), 'linear')


def upsample_corners(video: Video, height: int, width: int) -> Float['b t {height} {width} c']:
  """The video at another size, by linear interpolation with aligned corners."""
  for axis, size in ((2, height), (3, width)):
    n = video.shape[axis]
    position = jnp.linspace(0.0, n - 1.0, size)
    low = jnp.clip(jnp.floor(position).astype(jnp.int32), 0, max(n - 2, 0))
    part = (position - low).reshape([-1 if i == axis else 1 for i in range(video.ndim)])
    first, second = (jnp.take(video, jnp.minimum(low + i, n - 1), axis) for i in (0, 1))
    video = first + part * (second - first)
  return video


def blurred(video: Video, std: Time, reach: float) -> Video:
  """Each video blurred by a Gaussian of its own standard deviation, in pixels, which is at most
  `reach`.

  Beyond the edges of a frame, its outermost pixels are repeated.
  """
  radius = max(1, round(3 * reach))
  offsets = jnp.arange(-radius, radius + 1.0)[None]
  weights = jnp.exp(-0.5 * jnp.square(offsets / jnp.maximum(std, 1e-3)[:, None]))
  weights = weights / weights.sum(1, keepdims=True)
  for axis in (2, 3):
    padding = [(0, 0)] * video.ndim
    padding[axis] = (radius, radius)
    padded, size = jnp.pad(video, padding, mode='edge'), video.shape[axis]
    video = sum(
      weights[:, i, None, None, None, None] * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
      for i in range(2 * radius + 1)
    )
  return video
