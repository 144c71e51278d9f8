r"""Compares super-resolution with bicubic interpolation.

  python -m benchmarks.super_resolution --workdir=checkpoints/demo/ssr --output=ssr.png

Held-out clips are downsampled and enlarged again by both methods: moving shapes, and with
`--source` the real clips of a dataset that data.builder wrote.  The table has for each method

  PSNR       of pixels in [0, 1], in dB, as the mean over clips;
  sharpness  the energy of gradients, relative to that of the truth.  1 is as sharp as the truth;
             noise can exceed it.  It is the ratio of sums over all clips, since a clip may be flat.

The picture shows the middle frames of the first clips.
"""

import contextlib
import dataclasses
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
from core.typing import Float, Video
from data import transforms
from data.mixture import open_sources
from data.pipeline import batches
from diffusion.sampling import video_keys
from pipelines.checkpoints import find_super_resolution
from pipelines.model import Model
from pipelines.stages import super_resolution_config
from ssr.degrade import downsample
from text.encoder import Encoder, open_encoder
from training.step import pixels

METHODS = ('bicubic', 'super-resolution')
COLUMNS = ('low resolution', *METHODS, 'truth')
SHOWN = 4  # clips of each source in the picture


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The result for the clips of one data source."""

  clips: int
  psnr: dict[str, float]  # by method, in dB
  sharpness: dict[str, float]  # by method; that of the truth is 1
  shown: list[UInt8[np.ndarray, '4 h w 3']]  # middle frames of the first clips, as in `COLUMNS`


def compare(
  enlarge: Callable, source, encode: Encoder, clips: int, batch: int, seed: int
) -> Outcome:
  """The outcome for the first `clips` of a source, or all if there are fewer.

  enlarge: returns the videos of `COLUMNS` by name, `enlarge(batch, keys)`.
  """
  clips = min(clips, len(source))
  batch = min(batch, clips)
  psnrs, energies = {m: [] for m in METHODS}, {name: [] for name in (*METHODS, 'truth')}
  shown = []
  with contextlib.closing(batches(source, encode, batch=batch, seed=seed, shuffle=False)) as data:
    for i in tqdm(range(0, clips, batch), unit='batch'):
      videos = enlarge(next(data), video_keys(seed, jnp.arange(i, i + batch)))
      # The last batch may have more clips than are left.
      videos = {name: frames[: clips - i] for name, frames in videos.items()}
      for method in METHODS:
        psnrs[method] += psnr(videos[method], videos['truth']).tolist()
      for name in energies:
        energies[name] += gradient_energy(videos[name]).tolist()
      columns = [np.asarray(videos[name][: SHOWN - len(shown)]) for name in COLUMNS]
      middles = np.stack([frames[:, frames.shape[1] // 2] for frames in columns], 1)
      shown += list(video.to_uint8(middles))
  return Outcome(
    clips,
    {m: float(np.mean(psnrs[m])) for m in METHODS},
    {m: sum(energies[m]) / sum(energies['truth']) for m in METHODS},
    shown,
  )


def make_enlarge(model: Model) -> Callable:
  """Returns `enlarge(batch, keys)`: the videos of `COLUMNS` by name."""

  def enlarge(batch, keys):
    truth = pixels(batch['video'])
    low_res = downsample(truth, model.config.degrade.factor)
    resized = lambda method: jax.image.resize(low_res, truth.shape, method)
    cond = Condition(batch['text'], batch['text_mask'], low_res=low_res)
    upscaled = jnp.stack([*model.generate(cond, keys)])
    # Cubic interpolation overshoots at edges; samples are clipped already.
    videos = resized('nearest'), jnp.clip(resized('cubic'), -1, 1), upscaled, truth
    return dict(zip(COLUMNS, videos))

  return enlarge


def psnr(video: Video, truth: Video) -> HostFloat[np.ndarray, ' b']:
  """The PSNR in dB of each video in [-1, 1], for pixels scaled to [0, 1]; at most 100."""
  return 10 * np.log10(1 / np.maximum(np.asarray(_squared_error(video, truth)), 1e-10))


@jax.jit
def _squared_error(video: Video, truth: Video) -> Float[' b']:
  return jnp.mean(jnp.square((video - truth) / 2), (1, 2, 3, 4))


@jax.jit
def gradient_energy(frames: Video) -> Float[' b']:
  """The mean squared difference of neighbouring pixels of each video, vertical plus horizontal."""
  down, across = (jnp.square(jnp.diff(frames, axis=axis)) for axis in (2, 3))
  return down.mean((1, 2, 3, 4)) + across.mean((1, 2, 3, 4))


def table(outcomes: dict[str, Outcome]) -> str:
  """The outcomes as a Markdown table."""
  rows = [
    f'| {one.clips} of {name} | {method} | {one.psnr[method]:.2f} | {one.sharpness[method]:.2f} |'
    for name, one in outcomes.items()
    for method in METHODS
  ]
  return '\n'.join(['| clips | | PSNR, dB | sharpness |', '|---|---|---|---|', *rows])


def picture(outcomes: dict[str, Outcome]) -> Image.Image:
  """The middle frames of the first clips of every source."""
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
  output = f.output and chart.require_png(f.output)
  trained = super_resolution_config(workdir := pathlib.Path(f.workdir))
  # Whole frames, not the crops of training.
  size = transforms.uncropped(trained.data.size, trained.data.shorter_side)
  low_res = ConfigDict({'frames': f.frames, 'size': [n // trained.degrade.factor for n in size]})
  options = {key: f[key].value for key in ('aug_level', 'steps', 'window')}
  upscaler = find_super_resolution(workdir, low_res, **options)
  d = upscaler.config.data
  d.update(shorter_side=0, crop='center')

  settings = d.to_dict() | {'min_side': f.min_side, 'mixture': ()}
  opened = lambda source, split: open_sources(**settings | {'source': source}, split=split)
  sources = {'moving shapes': opened('synthetic', 'test')}
  if f.source:
    sources[f.source] = opened(f.source, f.split)
  batch = min(f.batch, f.clips)
  enlarge = make_enlarge(Model.open(upscaler.config, batch).with_params(upscaler.load()))
  options = dict(
    encode=open_encoder(**upscaler.config.text), clips=f.clips, batch=batch, seed=f.seed
  )
  outcomes = {name: compare(enlarge, source, **options) for name, source in sources.items()}
  print(table(outcomes))
  if output:
    chart.save(picture(outcomes), output)
    print(output)


if __name__ == '__main__':
  flags.DEFINE_string('workdir', 'checkpoints/demo/ssr', 'Workdir of the super-resolution model.')
  flags.DEFINE_string('source', None, 'Dataset of real clips: a folder that data.builder wrote.')
  flags.DEFINE_string('split', 'test', 'Split of --source to use.')
  flags.DEFINE_string('output', None, 'Image file to write the picture to, .png.')
  flags.DEFINE_integer(
    'min_side', 0, 'Leave out clips of --source whose shorter side has fewer pixels.'
  )
  flags.DEFINE_integer('clips', 200, 'Number of clips of each data source.', lower_bound=1)
  flags.DEFINE_integer('frames', 8, 'Number of frames of each clip.', lower_bound=1)
  flags.DEFINE_integer('batch', 4, 'Number of clips in a batch.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Seed of the noise.')
  flags.DEFINE_float(
    'aug_level',
    None,
    "Noise level of the low-resolution video; by default the model's.",
    lower_bound=0,
    upper_bound=1,
  )
  flags.DEFINE_integer('steps', None, "Sampling steps; by default the model's.", lower_bound=1)
  flags.DEFINE_integer('window', None, "Frames of a window; by default the model's.", lower_bound=1)
  command.run(main)
