r"""Whether a model of moving shapes invents its videos: how they vary, and how near training is.

  python -m benchmarks.variety --workdir=checkpoints/demo/t2v --output=variety.png

For each prompt, videos are generated from several seeds.  Distances are root mean squares over all
pixels, in levels of 255.  The table has for each prompt

  seeds      the mean distance of two videos of the prompt from different seeds;
  dataset    the same of two clips of the dataset that the prompt describes;
  training   the mean distance of a generated video from the nearest of all training clips that the
             prompt describes;
  held out   the same of a held-out clip that the prompt describes.

A model that copies clips of its training is much nearer to training than held-out clips are.  The
picture shows the first generated video of each prompt above its nearest clip of training.
"""

import itertools

import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image

from benchmarks import chart
from core import command, video
from core.errors import UserError
from data import synthetic
from data.pipeline import SHAPES, motion_weights
from diffusion.sampling import video_keys
from pipelines.checkpoints import find_base
from pipelines.model import Model

Clips = UInt8[np.ndarray, 'n t h w 3']
FIRST_PROMPT = 1000  # the seed of the first prompt
COLUMNS = 10  # frames of a clip in the picture


def indices(split: str, captions: set[str], length: int) -> dict[str, list[int]]:
  """For each caption, which of the first `length` clips of a split it describes."""
  numbers = {caption: [] for caption in captions}
  for i in range(length):
    caption = synthetic.facts(i, SHAPES[split], motion_weights(split)).caption
    if caption in numbers:
      numbers[caption].append(i)
  return numbers


def clips(numbers: list[int], d: ConfigDict, split: str) -> Clips:
  """These clips of a split, in the format of the config `d` of data."""
  options = dict(size=d.size, frames=d.frames, fps=d.fps, seed=SHAPES[split])
  weights = motion_weights(split)
  return np.stack([synthetic.clip(i, weights=weights, **options)['video'] for i in numbers])


def distances(a: Clips, b: Clips) -> np.ndarray:
  """The distance of every clip in `a` from every one in `b`, float `n m`."""
  a, b = (x.reshape(len(x), -1).astype(np.float32) for x in (a, b))
  square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
  return np.sqrt(np.maximum(square, 0) / a.shape[1])


def among(videos: Clips) -> float:
  """The mean distance of two of the videos."""
  pairs = [*itertools.combinations(range(len(videos)), 2)]
  every = distances(videos, videos)
  return float(np.mean([every[pair] for pair in pairs]))


def main() -> None:
  f = flags.FLAGS
  output = f.output and chart.require_png(f.output)
  base = find_base(f.workdir)
  d = base.config.data
  if d.source != 'synthetic' or d.frames < 2:
    raise UserError(f'{f.workdir} is no video model of moving shapes.')
  model = Model.open(base.config, f.seeds).with_params(base.load())
  scenes = [synthetic.prompt(FIRST_PROMPT + i) for i in range(f.prompts)]
  captions = {scene.caption for scene in scenes}
  # The run has seen some of these clips, in random order.
  train, test = indices('train', captions, f.clips), indices('test', captions, 100_000)
  rows, strips = [], []
  print('| prompt | seeds | dataset | training | held out |\n| --- | --- | --- | --- | --- |')
  for i, scene in enumerate(scenes):
    cond = model.encode([scene.caption] * f.seeds)
    keys = video_keys(i, jnp.arange(f.seeds))
    made = video.to_uint8(np.stack([*model.generate(cond, keys)]))
    held_out = clips(test[scene.caption][: f.seeds], d, 'test')
    training = clips(train[scene.caption], d, 'train')
    nearest, of_held_out = distances(made, training), distances(held_out, training)
    rows.append([among(made), among(held_out), nearest.min(1).mean(), of_held_out.min(1).mean()])
    print(f'| {scene.caption} | ' + ' | '.join(f'{x:.1f}' for x in rows[-1]) + ' |', flush=True)
    strips += [strip(made[0]), strip(training[nearest[0].argmin()])]
  print('| mean | ' + ' | '.join(f'{x:.1f}' for x in np.mean(rows, 0)) + ' |')
  if output:
    image = Image.fromarray(np.concatenate(strips))
    chart.save(image.resize((3 * image.width, 3 * image.height), Image.Resampling.NEAREST), output)
    print(output)


def strip(clip: UInt8[np.ndarray, 't h w 3']) -> UInt8[np.ndarray, 'h w2 3']:
  """Frames of the clip side by side."""
  return np.concatenate(clip[np.linspace(0, len(clip) - 1, COLUMNS).astype(int)], axis=1)


if __name__ == '__main__':
  flags.DEFINE_string('workdir', 'checkpoints/demo/t2v', 'Workdir of the video model.')
  flags.DEFINE_string('output', None, 'Image file to write to, .png.')
  flags.DEFINE_integer('prompts', 10, 'Number of prompts.', lower_bound=1)
  flags.DEFINE_integer('seeds', 10, 'Number of videos of each prompt.', lower_bound=2)
  flags.DEFINE_integer(
    'clips', 1_000_000, 'Number of training clips to search.', lower_bound=10_000
  )
  command.run(main)
