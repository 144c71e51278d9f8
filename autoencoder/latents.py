"""From videos to latents and back, a number of frames at a time, so that memory does not grow."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.sharding import PartitionSpec as P

from autoencoder.network import Autoencoder
from core.errors import UserError
from core.sharding import AXES
from core.typing import Float, Frames, Keys, Params, Video

# The range of the logarithm of a variance (`DiagonalGaussianDistribution` of diffusers).
LOG_VARIANCE = (-30.0, 20.0)


def encode(model: Autoencoder, params: Params, video: Video, at_once: int) -> Float['b t h2 w2 m']:
  """The moments of the latents of a video in [-1, 1]: see `Autoencoder.encode`.

  at_once: frames that each device encodes at once.  UserError if it is below 1.
  """
  apply = lambda frames: model.apply({'params': params}, frames, method='encode')
  return _by_frames(apply, video, at_once)


def decode(
  model: Autoencoder, params: Params, latents: Video, at_once: int
) -> Float['b t h2 w2 3']:
  """The video of scaled latents, such as `mean` and `sample` return.

  at_once: frames that each device decodes at once.  UserError if it is below 1.
  """
  apply = lambda frames: model.apply({'params': params}, frames / model.scaling, method='decode')
  return _by_frames(apply, latents, at_once)


def mean(model: Autoencoder, moments: Float['b t h w m']) -> Video:
  """The scaled means of latents, which unlike samples of them add no noise to a given frame."""
  return model.scaling * moments[..., : model.latent_channels].astype(jnp.float32)


def sample(model: Autoencoder, moments: Float['b t h w m'], keys: Keys) -> Video:
  """Scaled latents drawn from N(mean, variance), those of each video from its own key."""
  log_variance = moments[..., model.latent_channels :].astype(jnp.float32)
  std = jnp.exp(0.5 * jnp.clip(log_variance, *LOG_VARIANCE))
  noise = jax.vmap(lambda key, std: jax.random.normal(key, std.shape))(keys, std)
  return mean(model, moments) + model.scaling * std * noise


def _by_frames(
  apply: Callable[[Frames], Frames], video: Video, at_once: int
) -> Float['b t h2 w2 f']:
  """The video of which `apply` returns each frame; it is given `at_once` for each device.

  The devices of the mesh that is set, if one is, share the frames.
  """
  if at_once < 1:
    raise UserError(f'Got {at_once} frames at once; allowed is 1 or more.')
  mesh = jax.sharding.get_abstract_mesh()
  devices = 1 if mesh.empty else mesh.size
  frames = rearrange(video, 'b t h w c -> (b t) h w c')
  count = len(frames)
  # A device that has no frame of its own computes a copy, and short videos need no full chunk.
  chunk = devices * min(at_once, -(-count // devices))
  chunks = -(-count // chunk)
  frames = jnp.pad(frames, [(0, chunks * chunk - count), *[(0, 0)] * 3], 'edge')
  frames = rearrange(frames, '(k n) h w c -> k n h w c', k=chunks)

  def on_devices(frames):
    return frames if mesh.empty else jax.lax.with_sharding_constraint(frames, P(AXES))

  frames = jax.lax.map(lambda frames: on_devices(apply(on_devices(frames))), frames)
  frames = rearrange(frames, 'k n h w c -> (k n) h w c')[:count]
  return rearrange(frames, '(b t) h w c -> b t h w c', b=len(video))
