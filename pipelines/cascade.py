"""Sampling of super-resolution, the second half of the cascade: low-resolution videos in,
high-resolution videos out (Lumiere, Sec. 3.2)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from core import video
from core.condition import Condition
from core.errors import UserError
from core.sharding import make_mesh, over_batch
from core.typing import Float, Keys, Params, Video
from diffusion.denoiser import Denoiser, guided, network
from diffusion.process import Process
from diffusion.sampling import Generate, make_sample
from ssr.degrade import augmented, blurred
from ssr.multidiffusion import over_windows, starts

PIECE = 8  # frames of a high-resolution video that are copied to the host at once
FADE = 1.5  # pixels: the standard deviation of the blur that feathers the edge of the mask


def make_super_resolution(
  apply: Callable,
  process: Process,
  size: tuple[int, int],
  *,
  guidance: float,
  window: int,
  overlap: int,
  at_once: int,
  aug_level: float,
  augment: str = 'small',
  mesh: jax.sharding.Mesh | None = None,
  **sampling,
) -> Generate:
  """Returns the jitted `upscale(params, cond, keys) -> video` of `cond.low_res`.

  apply: the network, `apply(params, xt, t, cond)`, which upsamples `cond.low_res`: see ssr.model.
  size: h w of the high-resolution video, the same multiple of those of `cond.low_res`, which is
    b t h w c in [-1, 1].
  guidance: the scale of classifier-free guidance; 1 is none.
  window, overlap: see `over_windows`.  A shorter video is one window.
  at_once: windows that a device denoises together; its memory grows with them.
  aug_level: the noise level up to which `cond.low_res` is noised, in [0, 1]; else a ValueError.
  augment: which frames this noise is added to: see ssr.degrade.
  mesh: the devices over which windows are sharded, and each window over those of the axis `time`.
  sampling: the arguments of `make_sample`, whose errors are raised.

  If the condition has a masked video, it has this size.  The network is not conditioned on it: its
  pixels are composited with the prediction at every step, and fade into the generated ones.
  """
  if not 0 <= aug_level <= 1:
    raise UserError(f'Got an aug_level of {aug_level:g}; allowed is 0 to 1.')
  sample = make_sample(process, **sampling)
  windows = dict(window=window, overlap=overlap, at_once=at_once)
  windows |= dict(learned=sampling.get('sampler') == 'ddpm_learned')
  over_windows(lambda *inputs: None, **windows)  # raises its errors before a video is generated
  if mesh and mesh.size > 1:
    groups = mesh.size // mesh.shape['time']
    windows |= dict(at_once=at_once * groups, sharding=over_batch(mesh))

  @jax.jit
  def upscale(params: Params, cond: Condition, keys: Keys) -> Video:
    b, t, h, w, c = cond.low_res.shape
    if size[0] % h or size[1] % w or size[0] * w != size[1] * h:
      raise UserError(
        f'Got frames of {h}x{w} pixels to make {size[0]}x{size[1]} of; allowed is a size that goes '
        'into it as often down as across.'
      )
    keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    shape = (t, *size, c) if augment == 'upsampled' else (t, h, w, c)
    eps = jax.vmap(lambda key: jax.random.normal(key, shape))(noise_keys)
    cond = augmented(cond, jnp.full(b, aug_level), eps, augment)
    denoiser = guided(network(apply, params, process), guidance)
    if cond.mask is not None:
      cond = feathered(cond, FADE)
    return sample(without_mask(over_windows(denoiser, **windows)), cond, (t, *size, c), keys)

  return upscale


def without_mask(denoiser: Denoiser) -> Denoiser:
  """The denoiser of a network that is not conditioned on masked videos: it does not get them."""
  return lambda xt, t, cond: denoiser(xt, t, cond.replace(masked_video=None, mask=None))


def window_mesh(
  frames: int, window: int, overlap: int, devices: Sequence[jax.Device]
) -> jax.sharding.Mesh:
  """The devices for a video of this many frames, in groups that share windows.

  There are as many groups as possible while at most a fifth of them is idle when the last windows
  are denoised.
  """
  count, n = len(starts(frames, window, overlap)) if frames > window else 1, len(devices)
  idle = lambda groups: 1 - count / (groups * -(-count // groups))
  groups = max(g for g in range(1, n + 1) if n % g == 0 and idle(g) <= 0.2)
  return make_mesh((('data', groups), ('time', -1)), devices)


def feathered(cond: Condition, std: float) -> Condition:
  """The condition whose mask falls from 1 to 0 over a few pixels outside the given ones.

  Given pixels keep their colours.  Around them, the masked video is extended by the mean colour of
  the given pixels near by, weighted by a Gaussian of this standard deviation in pixels.
  """
  blur = lambda x: blurred(x, jnp.full(len(x), std), reach=std)
  near = blur(cond.mask)  # 1/2 at a straight edge
  colours = blur(cond.masked_video) / jnp.maximum(near, 1e-6)
  mask = jnp.where(cond.mask == 1, 1.0, jnp.clip(2 * near, 0, 1))
  video = jnp.where(cond.mask == 1, cond.masked_video, colours)
  return cond.replace(masked_video=video * mask, mask=mask)


def to_host(frames: Float['t h w c']) -> UInt8[np.ndarray, 't h w c']:
  """The pixels of a video on a device, copied to the host `PIECE` frames at a time, so that the
  host never holds all of it as floats."""
  pixels = np.empty(frames.shape, np.uint8)
  for i in range(0, len(frames), PIECE):
    i = min(i, max(len(frames) - PIECE, 0))  # all pieces have one shape, so one program cuts them
    piece = jax.lax.dynamic_slice_in_dim(frames, i, min(PIECE, len(frames)))
    pixels[i : i + PIECE] = video.to_uint8(np.asarray(piece))
  return pixels
