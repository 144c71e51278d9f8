"""What a super-resolution network is shown: a video made small, and then not quite clean.

Noise conditioning augmentation (Ho et al., 2022, "Cascaded Diffusion Models"; Imagen, Sec. 2.4):
trained on small videos with noise of any level, which it is told, the network does not take the
small ones of another model for the truth to the last pixel.
"""

import jax
import jax.numpy as jnp
from einops import reduce

from core.condition import Condition
from core.errors import UserError
from core.typing import Float, Key, Time, Video
from diffusion.process import Process

# What the noise of a level is; that of the network's own process is another matter.  It is added to
# the small frames, or to them upsampled, as DeepFloyd IF has it, whose corners are at corners.
AUGMENTATIONS = {
  'small': Process('cosine', 0.0, 'eps'),
  'upsampled': Process('discrete_cosine', 0.0, 'eps'),
}


def make_degrade(*, factor: int, level: float, blur: float, augment: str = 'small'):
  """Returns `degrade(key, x0, batch) -> cond`, of the batch's text and the video made small.

  factor: how many times smaller its sides are.
  level: the highest level of noise, in [0, 1]; each video's is drawn evenly up to it.
  blur: the highest standard deviation of a Gaussian blur before that, in small pixels, drawn
    likewise; 0 is none.
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
    frames = downsample(x0, factor)
    if blur:
      frames = blurred(frames, blur * jax.random.uniform(key_blur, x0.shape[:1]), reach=blur)
    levels = level * jax.random.uniform(key_level, x0.shape[:1])
    cond = Condition(batch['text'], batch['mask'], frames)
    eps = jax.random.normal(key_eps, (x0 if augment == 'upsampled' else frames).shape)
    return augmented(cond, levels, eps, augment)

  return degrade


def augmented(cond: Condition, level: Time, eps: Video, augment: str = 'small') -> Condition:
  """The condition with its frames noised to a level in [0, 1], those of each video to its own.

  eps: the noise, of the size of the small frames, or of that to which they are 'upsampled'.
  """
  frames = cond.frames
  if augment == 'upsampled':
    frames = upsample_corners(frames, *eps.shape[2:4])
  return cond.replace(frames=AUGMENTATIONS[augment].corrupt(frames, level, eps), level=level)


def downsample(video: Video, factor: int) -> Float['b t h2 w2 c']:
  """The mean of every square of `factor` by `factor` pixels, which no alias survives whole."""
  height, width = video.shape[2:4]
  if height % factor or width % factor:
    raise UserError(f'Frames of {height}x{width} pixels do not divide by {factor}.')
  return reduce(video, 'b t (h p) (w q) c -> b t h w c', 'mean', p=factor, q=factor)


def upsample(video: Video, height: int, width: int) -> Float['b t {height} {width} c']:
  """The frames at another size, by linear interpolation between the centres of pixels."""
  b, t, _, _, c = video.shape
  return jax.image.resize(video, (b, t, height, width, c), 'linear')


def upsample_corners(video: Video, height: int, width: int) -> Float['b t {height} {width} c']:
  """The frames at another size, by linear interpolation, with corner pixels in the corners."""
  for axis, size in ((2, height), (3, width)):
    n = video.shape[axis]
    at = jnp.linspace(0.0, n - 1.0, size)
    low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, max(n - 2, 0))
    part = (at - low).reshape([-1 if i == axis else 1 for i in range(video.ndim)])
    first, second = (jnp.take(video, jnp.minimum(low + i, n - 1), axis) for i in (0, 1))
    video = first + part * (second - first)
  return video


def blurred(video: Video, std: Time, reach: float) -> Video:
  """Each video blurred by a Gaussian of its own standard deviation, in pixels, up to `reach`.

  Beyond the edges of a frame, its outermost pixels are repeated.
  """
  radius = max(1, round(3 * reach))
  at = jnp.arange(-radius, radius + 1.0)[None]
  weights = jnp.exp(-0.5 * jnp.square(at / jnp.maximum(std, 1e-3)[:, None]))
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
