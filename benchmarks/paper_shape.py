r"""Generates a video of the paper's shape on a small machine: 80 frames of 1024x1024 pixels.

  python benchmarks/paper_shape.py --output=paper_shape.mp4

A base model generates 80x128x128 at once, and super-resolution upscales it to 80x1024x1024 in
windows of 8 frames (Lumiere, Sec. 3).  Both networks are narrow and their weights random, so that
the video shows nothing.  The point is that everything around the networks works at this shape: the
high-resolution video leaves the device frame by frame, and 12 GB of memory are enough.  `--frames`
and `--size` choose another shape.
"""

import contextlib
import pathlib
import resource
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

if not __package__:  # run by its path instead of with -m, so that the project is not on the path
  sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from core import command, video
from core.condition import Condition
from core.errors import UserError
from core.params import count
from core.typing import Params
from diffusion.process import Process
from diffusion.sampling import video_keys
from pipelines.cascade import make_super_resolution, to_host
from pipelines.text_to_video import make_text_to_video
from ssr.model import with_upsampled_low_res
from stunet.unet import STUNet
from text.hashed import encoder

PROMPT = 'a lion is roaring'
FACTOR = 8  # high-resolution side / low-resolution side
LIMIT = 12e9  # bytes

_NARROW = {
  'resample': 'conv',
  'head_features': 16,
  'groups': 8,
  'pool_heads': 4,
  'emb_features': 64,
  'activation': 'silu',
}
BASE = _NARROW | {
  'channels': (16, 32, 32, 64),
  'down_units': (0, 1, 1, 1),
  'up_units': (1, 1, 1, 1),
  'attention': ('none', 'none', 'joint', 'joint'),
  'temporal_strides': (1, 2, 2, 2),
  'temporal_attentions': (0, 0, 0, 1),
  'patch': 4,
}
SSR = _NARROW | {
  'channels': (16, 32, 32),
  'down_units': (0, 1, 1),
  'up_units': (1, 1, 1),
  'attention': ('none', 'none', 'cross'),
  'temporal_strides': (1, 2, 2),
  'temporal_attentions': (0, 0, 1),
  'patch': 8,
  'noise_level_embedding': True,
}
WINDOWS = {'window': 8, 'overlap': 2, 'at_once': 1, 'aug_level': 0.1}
SAMPLING = {'sampler': 'dpmpp_2m', 'spacing': 'even_angles'}


def narrow(model: STUNet, cond: Condition) -> tuple[Callable, Params]:
  """The network as `apply(params, xt, t, cond)`, and random parameters for it, none of them zero.

  Their shapes do not depend on the video's shape, so the smallest one is used.
  """
  side = model.patch * 2 ** (len(model.channels) - 1)
  x, t = jnp.zeros((1, model.temporal_factor, side, side, 3)), jnp.ones(1)
  if model.noise_level_embedding:
    cond = cond.replace(low_res=x, noise_level=t)
  # The initialisation of the model would take long to compile, and has a last layer of zeros.
  shapes = jax.eval_shape(model.init, jax.random.key(0), x, t, cond)['params']
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.1, p.shape), p.dtype), shapes)
  return lambda params, *inputs: model.apply({'params': params}, *inputs), params


def make(frames: int, size: int, base_steps: int, ssr_steps: int, path: pathlib.Path) -> None:
  """Writes a video of this shape, and prints the seconds of every part."""
  low, process, keys = size // FACTOR, Process(prediction='x0'), video_keys(0, jnp.arange(1))
  cond = Condition(*map(jnp.asarray, encoder(tokens=12, width=64)([PROMPT])))
  base, ssr = STUNet(**BASE), STUNet(**SSR)
  base.check_frames(frames)
  with timed('parameters'):
    base, base_params = narrow(base, cond)
    ssr, ssr_params = narrow(ssr, cond)

  options = dict(steps=base_steps, guidance=3.0, **SAMPLING)
  generate = make_text_to_video(base, process, (frames, low, low, 3), **options)
  with timed('base, compilation'):
    generate = generate.lower(base_params, cond, keys).compile()
  with timed(f'base, {base_steps} steps to {frames}x{low}x{low}'):
    cond = cond.replace(low_res=jax.block_until_ready(generate(base_params, cond, keys)))

  options = dict(steps=ssr_steps, guidance=1.0, **WINDOWS, **SAMPLING)
  upscale = make_super_resolution(with_upsampled_low_res(ssr), process, (size, size), **options)
  with timed('super-resolution, compilation'):
    upscale = upscale.lower(ssr_params, cond, keys).compile()
  with timed(f'super-resolution, {ssr_steps} steps to {frames}x{size}x{size}'):
    (upscaled,) = jax.block_until_ready(upscale(ssr_params, cond, keys))

  with timed('to the host'):
    pixels = to_host(upscaled)
  with timed('writing'):
    video.write(path, pixels, metadata={'prompt': PROMPT})
  print(f'{count(base_params):,} parameters of the base, {count(ssr_params):,} of super-resolution')


@contextlib.contextmanager
def timed(name: str):
  """Prints the seconds that the block takes."""
  begin = time.perf_counter()
  yield
  print(f'{name:<46} {time.perf_counter() - begin:8.1f} s', flush=True)


def peak_memory() -> int:
  """The peak memory of this process in bytes."""
  unit = 1 if sys.platform == 'darwin' else 1024  # getrusage(2) of macOS counts bytes
  return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
  f = flags.FLAGS
  if f.size % (FACTOR * 32):
    raise UserError(f'Got --size={f.size}; allowed are multiples of {FACTOR * 32}.')
  output = pathlib.Path(f.output)
  video.check_writable(output)
  make(f.frames, f.size, f.base_steps, f.ssr_steps, output)
  print(f'{peak_memory() / 2**30:.2f} GiB peak memory; {LIMIT / 2**30:.2f} are allowed')
  print(output)


if __name__ == '__main__':
  flags.DEFINE_string('output', 'paper_shape.mp4', 'Video file to write.')
  flags.DEFINE_integer('frames', 80, 'Number of frames, a multiple of 8.', lower_bound=8)
  flags.DEFINE_integer('size', 1024, 'Side of the frames in pixels.', lower_bound=1)
  flags.DEFINE_integer('base_steps', 4, 'Sampling steps of the base model.', lower_bound=1)
  flags.DEFINE_integer('ssr_steps', 2, 'Sampling steps of super-resolution.', lower_bound=1)
  command.run(main)
