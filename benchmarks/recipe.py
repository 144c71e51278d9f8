r"""Judges image models of moving shapes, so that recipes of training can be compared.

  python train.py --config=configs/t2i.py:demo --workdir=runs/muon --config.optim.name=muon ...
  python -m benchmarks.recipe --workdirs=checkpoints/demo/t2i,runs/muon --output=recipe.png

The table has for each model

  steps, s   the steps that it has had, and the seconds that they took, as its run has measured;
  error      of one denoising step on held-out frames, the mean square of x0, at each log-SNR;
  seen       the share of these steps, at each log-SNR of `SEEN`, that show the shape of the frame;
  obeyed     the share that show the shape of a text in which the word for it is another, at the
             log-SNR `SWAPPED`: there the text decides more than the noisy frame does;
  colour, background, shape   the shares of generated images that show what their prompt says.

An image model is worth inflating when its shapes are right: the one that ships has an error of
0.0071 at a log-SNR of -1 and obeys 72% of the swapped words.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import UInt8
from PIL import Image

from benchmarks import chart
from core import command, video
from core.errors import UserError
from data import synthetic
from data.pipeline import SHAPES
from diffusion.denoiser import network
from diffusion.sampling import video_keys
from evaluation.shapes.judge import judge
from pipelines.checkpoints import Checkpoint, find_base
from pipelines.model import Model
from training import account
from training.step import pixels

LOG_SNRS = (-4.0, -3.0, -2.0, -1.0, 2.0)
SEEN = (-3.0, -1.0)
SWAPPED = -3.0
WORDS = ('colour', 'background', 'shape')
FIRST_PROMPT = 1000  # the seed of the first prompt


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What one model does."""

  step: int
  seconds: float  # of steps, over the whole run
  errors: list[float]  # at each of `LOG_SNRS`
  seen: list[float]  # at each of `SEEN`
  obeyed: float
  shares: dict[str, float]  # of `WORDS`
  images: UInt8[np.ndarray, 'n h w 3']


def assess(checkpoint: Checkpoint, frames: int, images: int, seed: int) -> Outcome:
  """The outcome for a model, on so many held-out frames and generated images."""
  model = Model.open(checkpoint.config, images).with_params(checkpoint.load())
  clips = [
    synthetic.clip(i, size=checkpoint.config.data.size, frames=1, fps=16.0, seed=SHAPES['test'])
    for i in range(frames)
  ]
  x0 = pixels(jnp.asarray(np.stack([clip['video'] for clip in clips])))
  eps = jax.random.normal(jax.random.key(seed), x0.shape)
  process = model.stage.process

  @jax.jit
  def denoise(params, log_snr, cond):
    t = jnp.full(frames, process.time(jnp.full(1, log_snr))[0])
    xt = process.corrupt(x0, t, eps)
    return network(model.stage.apply, params, process)(xt, t, cond)[..., :3]

  facts = [clip['facts'] for clip in clips]
  denoised = functools.partial(denoise, model.params)
  cond = model.encode([one.caption for one in facts])
  predicted = {log_snr: denoised(log_snr, cond) for log_snr in LOG_SNRS}
  others = [swapped(one, i) for i, one in enumerate(facts)]
  obeying = denoised(SWAPPED, model.encode([one.caption for one in others]))

  scenes = [synthetic.prompt(FIRST_PROMPT + i) for i in range(images)]
  cond = model.encode([scene.caption for scene in scenes])
  made = video.to_uint8(np.stack([*model.generate(cond, video_keys(seed, jnp.arange(images)))]))
  return Outcome(
    checkpoint.step,
    seconds_of_steps(checkpoint.workdir),
    [float(jnp.mean(jnp.square(predicted[log_snr] - x0))) for log_snr in LOG_SNRS],
    [agreement(predicted[log_snr], facts, 'shape') for log_snr in SEEN],
    agreement(obeying, others, 'shape'),
    {word: agreement(made, scenes, word) for word in WORDS},
    made[:, 0],
  )


def swapped(scene: synthetic.Scene, i: int) -> synthetic.Scene:
  """The scene with one of the other shapes."""
  place = synthetic.SHAPES.index(scene.shape) + 1 + i % (len(synthetic.SHAPES) - 1)
  return synthetic.Scene(
    scene.colour, synthetic.SHAPES[place % len(synthetic.SHAPES)], scene.motion, scene.background
  )


def agreement(videos, scenes, word: str) -> float:
  """The share of videos, float in [-1, 1] or uint8, that show what the scenes say."""
  videos = np.asarray(videos)
  videos = videos if videos.dtype == np.uint8 else video.to_uint8(videos)
  right = [getattr(judge(v), word) == getattr(s, word) for v, s in zip(videos, scenes, strict=True)]
  return float(np.mean(right))


def seconds_of_steps(workdir: pathlib.Path) -> float:
  """The seconds of all steps of a run, which may have been interrupted; NaN if it has no log."""
  metrics = workdir / 'metrics.jsonl'
  if not metrics.exists():
    return float('nan')
  return sum(start.seconds.get('step', 0.0) for start in account.starts(metrics))


def table(outcomes: dict[str, Outcome]) -> str:
  """The outcomes as a Markdown table."""
  head = [
    *('model', 'steps', 's'),
    *(f'error at {log_snr:g}' for log_snr in LOG_SNRS),
    *(f'seen at {log_snr:g}' for log_snr in SEEN),
    *('obeyed', *WORDS),
  ]
  rows = [
    [
      *(name, f'{one.step:,}', f'{one.seconds:.0f}'),
      *(f'{error:.4f}' for error in one.errors),
      *(f'{share:.0%}' for share in (*one.seen, one.obeyed, *one.shares.values())),
    ]
    for name, one in outcomes.items()
  ]
  return '\n'.join('| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *rows))


def picture(outcomes: dict[str, Outcome], columns: int = 20) -> Image.Image:
  """The first images of every model, a row for each model, at four times their size."""
  rows = [np.concatenate(one.images[:columns], axis=1) for one in outcomes.values()]
  image = Image.fromarray(np.concatenate(rows))
  return image.resize((4 * image.width, 4 * image.height), Image.Resampling.NEAREST)


def main() -> None:
  f = flags.FLAGS
  output = f.output and chart.require_png(f.output)
  checkpoints = {workdir: find_base(workdir, steps=f.steps) for workdir in f.workdirs}
  for workdir, one in checkpoints.items():
    if one.config.stage != 't2i':
      raise UserError(f'{workdir} is no image model of the stage t2i.')
  outcomes = {name: assess(one, f.frames, f.images, f.seed) for name, one in checkpoints.items()}
  print(table(outcomes))
  if output:
    chart.save(picture(outcomes), output)
    print(output)


if __name__ == '__main__':
  flags.DEFINE_list('workdirs', ['checkpoints/demo/t2i'], 'Workdirs of the image models.')
  flags.DEFINE_string('output', None, 'Image file to write generated images to, .png.')
  flags.DEFINE_integer('frames', 200, 'Number of held-out frames.', lower_bound=1)
  flags.DEFINE_integer('images', 200, 'Number of images to generate.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Seed of the noise.')
  flags.DEFINE_integer('steps', 30, 'Sampling steps.', lower_bound=1)
  command.run(main)
