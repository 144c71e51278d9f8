r"""Answers whether super-resolution is worth having, beside bicubic interpolation.

  python -m benchmarks.super_resolution --workdir=checkpoints/demo/ssr --output=ssr.png

Held-out clips are made small, and large again in both ways: moving shapes, and with `--source` the
real clips of a dataset that data.builder wrote.  The table has for each way

  PSNR       of pixels in [0, 1], in dB, the mean over clips: how near it comes to the truth;
  sharpness  the energy of gradients over that of the truth: 1 is as sharp, and noise is above it.
             Both are of all clips together, as a clip may be flat.

The picture has the middle frames of the first clips.
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float as HostFloat
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from benchmarks import chart
from core import command, video
from core.condition import Condition
from core.errors import UserError
from core.folder import new_file
from core.typing import Float, Video
from data.pipeline import batches, open_source
from diffusion.sampling import video_keys
from evaluation import image_quality
from pipelines.stages import open_stage, super_resolution_config
from ssr.degrade import downsample
from text.encoder import Encoder, open_encoder
from training import checkpoint
from training.step import pixels

WAYS = ('bicubic', 'super-resolution')
COLUMNS = ('small', *WAYS, 'truth')
SHOWN = 4  # clips of each source


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of the clips of one source."""

  clips: int
  psnr: dict[str, float]  # of each way, in dB
  sharpness: dict[str, float]  # of each way; the truth's is 1
  shown: list[UInt8[np.ndarray, '4 h w 3']]  # the middle frames of some clips, as in `COLUMNS`


def compare(
  enlarge: Callable, source, encode: Encoder, clips: int, batch: int, seed: int
) -> Outcome:
  """The outcome of the first `clips` of a source, or of all it has, so many of them in a `batch`.

  enlarge: makes their columns, `enlarge(batch, keys)`.
  """
  clips = min(clips, len(source))
  batch = min(batch, clips)
  near, sharp = {way: [] for way in WAYS}, {name: [] for name in (*WAYS, 'truth')}
  shown = []
  with contextlib.closing(batches(source, encode, batch=batch, seed=seed, shuffle=False)) as data:
    for i in tqdm(range(0, clips, batch), unit='batch'):
      made = enlarge(next(data), video_keys(seed, jnp.arange(i, i + batch)))
      # The last batch is a full one, too.
      made = {name: frames[: clips - i] for name, frames in made.items()}
      for way in WAYS:
        near[way] += psnr(made[way], made['truth']).tolist()
      for name in sharp:
        sharp[name] += gradient_energy(made[name]).tolist()
      some = [np.asarray(made[name][: SHOWN - len(shown)]) for name in COLUMNS]
      middles = np.stack([frames[:, frames.shape[1] // 2] for frames in some], 1)
      shown += list(video.to_uint8(middles))
  return Outcome(
    clips,
    {way: float(np.mean(near[way])) for way in WAYS},
    {way: sum(sharp[way]) / sum(sharp['truth']) for way in WAYS},
    shown,
  )


def make_enlarge(config: ConfigDict) -> Callable:
  """Returns the jitted `enlarge(params, batch, keys)`, videos of one size by their `COLUMNS`."""
  generate, factor = open_stage(config).generate, config.degrade.factor

  @jax.jit
  def enlarge(params, batch, keys):
    truth = pixels(batch['video'])
    small = downsample(truth, factor)
    resized = lambda method: jax.image.resize(small, truth.shape, method)
    large = generate(params, Condition(batch['text'], batch['text_mask'], low_res=small), keys)
    # A cubic overshoots at edges, a network is clipped by its sampler.
    made = resized('nearest'), jnp.clip(resized('cubic'), -1, 1), large, truth
    return dict(zip(COLUMNS, made))

  return enlarge


def psnr(made: Video, truth: Video) -> HostFloat[np.ndarray, ' b']:
  """In dB, of each video in [-1, 1], whose pixels count as [0, 1].  It ends at 100."""
  return image_quality.decibels(np.asarray(_squared_error(made, truth)))


@jax.jit
def _squared_error(made: Video, truth: Video) -> Float[' b']:
  return jnp.mean(jnp.square((made - truth) / 2), (1, 2, 3, 4))


@jax.jit
def gradient_energy(frames: Video) -> Float[' b']:
  """The mean square of what neighbouring pixels of each video differ by, down plus across."""
  down, across = (jnp.square(jnp.diff(frames, axis=axis)) for axis in (2, 3))
  return down.mean((1, 2, 3, 4)) + across.mean((1, 2, 3, 4))


def table(outcomes: dict[str, Outcome]) -> str:
  """In Markdown."""
  rows = [
    f'| {of.clips} of {name} | {way} | {of.psnr[way]:.2f} | {of.sharpness[way]:.2f} |'
    for name, of in outcomes.items()
    for way in WAYS
  ]
  return '\n'.join(['| clips | | PSNR, dB | sharpness |', '|---|---|---|---|', *rows])


def picture(outcomes: dict[str, Outcome]) -> Image.Image:
  """The columns of some clips of every source."""
  columns = f'{", ".join(COLUMNS[:-1])} and {COLUMNS[-1]}'
  return chart.stacked(
    [
      chart.filmstrip(f'{name}, number {i}: {columns}', frames, frames=len(COLUMNS))
      for name, outcome in outcomes.items()
      for i, frames in enumerate(outcome.shown)
    ]
  )


def main() -> None:
  f = flags.FLAGS
  output = f.output and pathlib.Path(f.output)
  if output:
    if output.suffix != '.png':
      raise UserError(f'Got --output={output}; allowed is a name that ends in .png.')
    video.check_writable(output)
  config = super_resolution_config(workdir := pathlib.Path(f.workdir))
  _, params, _ = checkpoint.load(workdir)
  given = {key: f[key].value for key in ('aug_level', 'steps', 'window')}
  config.sampling.update({key: value for key, value in given.items() if value is not None})
  d = config.data  # whole frames, where the training has crops
  d.update(size=d.shorter_side or d.size, shorter_side=0, crop='center', frames=f.frames)

  of = d.to_dict() | {'min_side': f.min_side}
  opened = lambda source, split: open_source(**of | {'source': source}, split=split)
  sources = {'moving shapes': opened('synthetic', 'test')}
  if f.source:
    sources[f.source] = opened(f.source, f.split)
  enlarge = functools.partial(make_enlarge(config), params)
  options = dict(encode=open_encoder(**config.text), clips=f.clips, batch=f.batch, seed=f.seed)
  outcomes = {name: compare(enlarge, source, **options) for name, source in sources.items()}
  print(table(outcomes))
  if output:
    with new_file(output) as file:
      picture(outcomes).save(file, 'PNG')
    print(output)


if __name__ == '__main__':
  flags.DEFINE_string('workdir', 'checkpoints/demo/ssr', 'Where the model was trained.')
  flags.DEFINE_string('source', None, 'The folder of a dataset of real clips.')
  flags.DEFINE_string('split', 'test', 'Which of its clips.')
  flags.DEFINE_string('output', None, 'A picture, .png.')
  flags.DEFINE_integer('min_side', 0, 'Leaves out clips of it with a shorter side below this.')
  flags.DEFINE_integer('clips', 200, 'Of each source.', lower_bound=1)
  flags.DEFINE_integer('frames', 8, 'Of each clip.', lower_bound=1)
  flags.DEFINE_integer('batch', 4, 'Clips at once.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Of all noise.')
  flags.DEFINE_float('aug_level', None, "The model's by default.", lower_bound=0, upper_bound=1)
  flags.DEFINE_integer('steps', None, "The model's by default.", lower_bound=1)
  flags.DEFINE_integer('window', None, "The model's by default.", lower_bound=1)
  command.run(main)
