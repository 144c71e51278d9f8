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

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

if not __package__:  # run by its path instead of with -m, so that the project is not on the path
  sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from core import command, video
from core.errors import UserError
from core.params import count
from core.typing import Params
from pipelines import Pipeline
from pipelines.model import Model
from training.plan import parameter_shapes

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


def random_params(shapes: Params) -> Params:
  """Random parameters of these shapes, none of them zero."""
  # The initialisation of a model would take long to compile, and has a last layer of zeros.
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.1, p.shape), p.dtype), shapes)


def base_config(c: ConfigDict, frames: int, size: int, steps: int) -> ConfigDict:
  """The config of a narrow base model, for videos of this shape."""
  c.model.update(BASE)
  c.schedule.prediction = 'x0'
  c.data.update(frames=frames, size=size)
  c.sampling.steps = steps
  return c


def super_resolution_config(c: ConfigDict, frames: int, size: int, steps: int) -> ConfigDict:
  """The config of a narrow model of super-resolution, to videos of this shape."""
  c.model.update(SSR)
  c.schedule.prediction = 'x0'
  c.degrade.factor = FACTOR
  c.data.update(frames=frames, size=size)
  c.sampling.update(steps=steps, window=8, overlap=2)
  return c


def with_random_params(model: Model) -> Model:
  """The model with random parameters, whose number is printed."""
  params = random_params(parameter_shapes(model.stage))
  print(f'{count(params):,} parameters of stage {model.config.stage}')
  return model.with_params(params)


def make(base: ConfigDict, ssr: ConfigDict, path: pathlib.Path) -> None:
  """Writes a video of models with these configs, and prints the seconds of every part."""
  with timed('parameters'):
    base_model = with_random_params(Model.open(base, batch=1))
    pipeline = Pipeline(base_model, with_random_params(Model.open_super_resolution(ssr)))
  with timed('compilation'):
    videos = pipeline.generate([PROMPT])
  with timed(f'{base.sampling.steps} and {ssr.sampling.steps} steps'):
    [pixels] = videos
  with timed('writing'):
    video.write(path, pixels, metadata={'prompt': PROMPT})


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
  base = base_config(f.config, f.frames, f.size // FACTOR, f.base_steps)
  make(base, super_resolution_config(f.ssr_config, f.frames, f.size, f.ssr_steps), output)
  print(f'{peak_memory() / 2**30:.2f} GiB peak memory; {LIMIT / 2**30:.2f} are allowed')
  print(output)


if __name__ == '__main__':
  config_flags.DEFINE_config_file('config', 'configs/t2v.py:tiny', lock_config=False)
  config_flags.DEFINE_config_file('ssr_config', 'configs/ssr.py:tiny', lock_config=False)
  flags.DEFINE_string('output', 'paper_shape.mp4', 'Video file to write.')
  flags.DEFINE_integer('frames', 80, 'Number of frames, a multiple of 8.', lower_bound=8)
  flags.DEFINE_integer('size', 1024, 'Side of the frames in pixels.', lower_bound=1)
  flags.DEFINE_integer('base_steps', 4, 'Sampling steps of the base model.', lower_bound=1)
  flags.DEFINE_integer('ssr_steps', 2, 'Sampling steps of super-resolution.', lower_bound=1)
  command.run(main)
