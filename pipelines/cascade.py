"""A small video in, a large one out: the second half of the cascade (Lumiere, Sec. 3.2)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from core import video
from core.condition import Condition
from core.errors import UserError
from core.given import Given
from core.sharding import make_mesh, over_batch, replicated
from core.typing import Float, Keys, Params, Video
from diffusion.denoiser import guided, network
from diffusion.process import Process
from diffusion.sampling import Generate, make_sample, video_keys
from ssr.degrade import augmented, blurred
from ssr.multidiffusion import over_windows, starts
from text.encoder import Encoder

PIECE = 8  # frames of a large video that leave its device together
FADE = 1.5  # pixels: the standard deviation of the edge of what is given


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
  """Returns the jitted `upscale(params, cond, keys, given) -> video` of the small `cond.frames`.

  apply: the network, `apply(params, xt, t, cond)`, which is given small frames: see ssr.model.
  size: h w of the large video, the same multiple of those of `cond.frames`, b t h w c in [-1, 1].
  guidance: the scale of classifier-free guidance; 1 is none.
  window, overlap: see `over_windows`.  A shorter video is one window.
  at_once: windows that a device denoises together; its memory grows with them.
  aug_level: of the noise that is added to `cond.frames`, in [0, 1]; else a ValueError.
  augment: how it is: see ssr.degrade.
  mesh: the devices over which windows are spread, and each over those of the axis `time`.
  sampling: see `make_sample`, whose errors are raised.

  What is `given` of the large video, if it is not None, is kept at its own resolution, and fades
  into what is made.
  """
  if not 0 <= aug_level <= 1:
    raise UserError(f'Got an aug_level of {aug_level:g}; allowed is 0 to 1.')
  sample = make_sample(process, **sampling)
  windows = dict(window=window, overlap=overlap, at_once=at_once)
  windows |= dict(learned=sampling.get('sampler') == 'ddpm_learned')
  over_windows(lambda *inputs: None, **windows)  # so that its errors come before a video does
  if mesh and mesh.size > 1:
    groups = mesh.size // mesh.shape['time']
    windows |= dict(at_once=at_once * groups, sharding=over_batch(mesh))

  @jax.jit
  def upscale(params: Params, cond: Condition, keys: Keys, given: Given | None = None) -> Video:
    b, t, h, w, c = cond.frames.shape
    if size[0] % h or size[1] % w or size[0] * w != size[1] * h:
      raise UserError(
        f'Got frames of {h}x{w} pixels to make {size[0]}x{size[1]} of; allowed is a size that goes '
        'into it as often down as across.'
      )
    keys, of_frames = jax.vmap(jax.random.split, out_axes=1)(keys)
    shape = (t, *size, c) if augment == 'upsampled' else (t, h, w, c)
    eps = jax.vmap(lambda key: jax.random.normal(key, shape))(of_frames)
    cond = augmented(cond, jnp.full(b, aug_level), eps, augment)
    denoiser = guided(network(apply, params, process), guidance)
    given = None if given is None else feathered(given, FADE)
    return sample(over_windows(denoiser, **windows), cond, (t, *size, c), keys, given)

  return upscale


def window_mesh(
  frames: int, window: int, overlap: int, devices: Sequence[jax.Device]
) -> jax.sharding.Mesh:
  """The devices for a video of so many frames, in groups that share windows.

  There are as many groups as leave a fifth of them idle at most, when the last windows are done.
  """
  count, n = len(starts(frames, window, overlap)) if frames > window else 1, len(devices)
  idle = lambda groups: 1 - count / (groups * -(-count // groups))
  groups = max(g for g in range(1, n + 1) if n % g == 0 and idle(g) <= 0.2)
  return make_mesh((('data', groups), ('time', -1)), devices)


def one_by_one(
  generate: Generate,
  params: Params,
  encode: Encoder,
  shape: tuple[int, int, int, int],
  *,
  seed: int,
  mesh: jax.sharding.Mesh,
  given: Given | None = None,
) -> Callable[[str, int, Float['t h w c']], Float['t h2 w2 c']]:
  """Returns `make(prompt, number, frames) -> video`, compiled for small `frames` of this shape.

  A large video fills a device, and its windows are spread over all of them: so there is no batch.
  What is `given` of it, in a batch of one, is the same for all.
  """
  everywhere = replicated(mesh)
  params, given = jax.device_put((params, given), everywhere)

  def inputs(prompt, number, frames):
    cond = Condition(*map(jnp.asarray, encode([prompt])), frames=frames[None])
    keys = video_keys(seed, jnp.array([number]))
    return params, *jax.device_put((cond, keys), everywhere), given

  with jax.set_mesh(mesh):
    compiled = generate.lower(*inputs('', 0, jnp.zeros(shape))).compile()

  def make(prompt, number, frames):
    video = jax.block_until_ready(compiled(*inputs(prompt, number, frames)))[0]
    jax.effects_barrier()  # no step is told of after this
    return video

  return make


def feathered(given: Given, std: float) -> Given:
  """The same, whose known pixels fade into the others over a few of them, and stay what they are.

  Beyond what is known its nearest colours go on, ever fainter: the mean of what is known around,
  weighed by a Gaussian of this standard deviation, in pixels.
  """
  blur = lambda x: blurred(x, jnp.full(len(x), std), reach=std)
  near = blur(given.known)  # at a straight edge 1/2
  colours = blur(given.frames) / jnp.maximum(near, 1e-6)
  known = jnp.where(given.known == 1, 1.0, jnp.clip(2 * near, 0, 1))
  return Given.of(jnp.where(given.known == 1, given.frames, colours), known)


def to_host(frames: Float['t h w c']) -> UInt8[np.ndarray, 't h w c']:
  """The pixels of a video on a device, of which no more than `PIECE` frames leave it as floats."""
  pixels = np.empty(frames.shape, np.uint8)
  for i in range(0, len(frames), PIECE):
    i = min(i, max(len(frames) - PIECE, 0))  # every piece has one shape, and is compiled once
    piece = jax.lax.dynamic_slice_in_dim(frames, i, min(PIECE, len(frames)))
    pixels[i : i + PIECE] = video.to_uint8(np.asarray(piece))
  return pixels
