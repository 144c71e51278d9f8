r"""Measures whether a large video shows the windows that it was made in (Lumiere, Fig. 14).

  python -m benchmarks.seams --workdir=checkpoints/demo/t2v --ssr_workdir=checkpoints/demo/ssr \
    --output=seams.png

Each small video, of the model in `--workdir` or with `--small=truth` drawn as it should be, is made
large twice from the same noise: in windows that overlap, and in windows that only touch.

The ratio is that of `evaluation.seams`, of all videos together; 1 is a video without seams.  As
motion is not the same in all frames, there is the ratio of the small videos besides, in the same
pairs: what is beyond it is due to the windows.
"""

import pathlib
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Bool
from jaxtyping import Float as HostFloat
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from benchmarks import chart
from core import command, video
from core.errors import UserError
from core.folder import new_file
from core.sharding import make_mesh
from core.typing import Float, Params
from data import synthetic
from data.pipeline import SHAPES
from evaluation.seams import borders, differences, ratio
from pipelines.cascade import compile_super_resolution
from pipelines.stages import open_stage, super_resolution_config
from pipelines.text_to_video import compile_text_to_video
from text.encoder import open_encoder
from training import checkpoint

# The number of a video -> its prompt and the small video.
Small = Callable[[int], tuple[str, Float['t h w c']]]


def from_model(workdir: pathlib.Path, frames: int, seed: int) -> tuple[Small, int]:
  """What the model there makes of the prompts for evaluation, and the side of its frames."""
  config, params, _ = checkpoint.load(workdir)
  config.data.frames = frames
  generate, encode = open_stage(config).generate, open_encoder(**config.text)
  make = compile_text_to_video(generate, params, encode, batch=1, seed=seed)

  def small(i):
    prompt = synthetic.prompt(i).caption
    return prompt, make([prompt], [i])[0]

  return small, config.data.size


def from_truth(frames: int, side: int) -> Small:
  """Moving shapes as they are drawn."""

  def small(i):
    clip = synthetic.clip(i, size=side, frames=frames, fps=16, seed=SHAPES['test'])
    return clip['caption'], jnp.asarray(video.to_float(clip['video']))

  return small


def open_upscale(
  config: ConfigDict, params: Params, frames: int, side: int, overlap: int, seed: int
) -> Callable:
  """Super-resolution of frames with this side, as `upscale(prompt, number, frames) -> video`."""
  config.data.update(frames=frames, size=side * config.degrade.factor)
  config.sampling.overlap = overlap
  mesh, shape = make_mesh((('data', -1), ('fsdp', 1))), (frames, side, side, 3)
  generate, encode = open_stage(config, mesh=mesh).generate, open_encoder(**config.text)
  return compile_super_resolution(generate, params, encode, shape, seed=seed, mesh=mesh)


def picture(
  found: dict[int, HostFloat[np.ndarray, 'n pairs']], at: dict[int, Bool[np.ndarray, ' pairs']]
) -> Image.Image:
  """A chart for each overlap: the mean over videos by the frame, and lines where borders are."""
  means = {overlap: of.mean(0) for overlap, of in found.items()}
  top = 1.2 * max(mean.max() for mean in means.values())  # leaves room for the names
  charts = []
  for overlap, mean in means.items():
    # One curve, which goes up and down at every border, and in all charts as high.
    lines = [(i, y) for i in np.flatnonzero(at[overlap]) for y in (0, top, 0)]
    curves = {
      'borders of windows': [(0, 0), *lines, (len(mean) - 1, 0)],
      f'{overlap} frames of overlap' if overlap else 'no overlap': list(enumerate(mean)),
    }
    charts.append(
      chart.line_chart(curves, x_label='frame', y_label='mean squared difference to the next')
    )
  return chart.stacked(charts)


def main() -> None:
  f, output = flags.FLAGS, pathlib.Path(flags.FLAGS.output)
  if output.suffix != '.png':
    raise UserError(f'Got --output={output}; allowed is a name that ends in .png.')
  video.check_writable(output)
  config = super_resolution_config(ssr := pathlib.Path(f.ssr_workdir))
  _, params, _ = checkpoint.load(ssr)
  overlaps = config.sampling.overlap if f.overlap is None else f.overlap, 0
  at = {overlap: borders(f.frames, config.sampling.window, overlap) for overlap in overlaps}
  if f.small == 'truth':
    side = (config.data.shorter_side or config.data.size) // config.degrade.factor
    small = from_truth(f.frames, side)
  else:
    small, side = from_model(pathlib.Path(f.workdir), f.frames, f.seed)
  upscale = {o: open_upscale(config, params, f.frames, side, o, f.seed) for o in at}

  before, found = [], {overlap: [] for overlap in at}
  for i in tqdm(range(f.videos), unit='video'):
    prompt, frames = small(i)
    before.append(differences(np.asarray(frames)))
    for overlap in at:
      large = np.asarray(upscale[overlap](prompt, i, frames))
      found[overlap].append(differences(large))
  before, found = np.stack(before), {overlap: np.stack(of) for overlap, of in found.items()}
  print('| overlap | large videos | small videos, same pairs |', '|---|---|---|', sep='\n')
  for overlap in at:
    print(
      f'| {overlap} | {ratio(found[overlap], at[overlap]):.3f} | {ratio(before, at[overlap]):.3f} |'
    )
  with new_file(output) as file:
    picture(found, at).save(file, 'PNG')
  print(output)


if __name__ == '__main__':
  flags.DEFINE_enum('small', 'model', ('model', 'truth'), 'Where small videos are from.')
  flags.DEFINE_string('workdir', 'checkpoints/demo/t2v', 'Where the model of them was trained.')
  flags.DEFINE_string('ssr_workdir', 'checkpoints/demo/ssr', 'And that of super-resolution.')
  flags.DEFINE_string('output', 'seams.png', 'The chart, .png.')
  flags.DEFINE_integer('videos', 20, 'How many.', lower_bound=1)
  flags.DEFINE_integer('frames', 80, 'Of each.', lower_bound=2)
  flags.DEFINE_integer('overlap', None, "The model's by default.", lower_bound=0)
  flags.DEFINE_integer('seed', 0, 'Of all noise.')
  command.run(main)
