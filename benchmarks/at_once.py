r"""The paper's claim at a small scale: all frames at once against keyframes with frames in between.

  python -m benchmarks.at_once --workdir=runs/t2v --image_workdir=runs/t2i \
    --keyframes_workdir=runs/t2v_sparse --between_workdir=runs/t2v_between --output=at_once.png

Three models make videos of the same prompts, from the same image model:

  at once      the space-time U-Net makes all frames together (Lumiere, Sec. 3.1);
  keyframes    a video model makes every fourth frame, and a model of temporal super-resolution, the
               network of masked videos trained on such frames, makes those in between.  It sees 20
               frames at a time, as such models do, and a window begins with the last keyframe of
               the one before;
  alone        the image model makes every frame, each from its own noise.  From the same noise it
               would make a still video.

The table has the shares of videos that show what their prompts say and how steady they are, as
`evaluate.py shapes` has them.  The picture has the X-T slices of some prompts.
"""

import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from benchmarks import chart
from core import command, video
from core.condition import Condition
from core.errors import UserError
from data import synthetic
from data.masks import KEYFRAME_STEP, keyframes
from diffusion.sampling import video_keys
from evaluation.scores import FACTS
from evaluation.shapes.judge import judge
from evaluation.shapes.steadiness import NAMES, means, steadiness
from evaluation.xt_slice import picture
from pipelines.checkpoints import Checkpoint, find_base
from pipelines.model import Model

Clip = UInt8[np.ndarray, 't h w 3']
Make = Callable[[str, int], Clip]  # (prompt, number of the video) -> all its frames
_NONE = Condition()
FIRST_PROMPT = 1000  # the seed of the first prompt


def open_model(base: Checkpoint, batch: int = 1) -> Model:
  """The model of a checkpoint."""
  return Model.open(base.config, batch).with_params(base.load())


def generated(
  model: Model, prompts: Sequence[str], numbers, condition=_NONE
) -> UInt8[np.ndarray, 'n t h w 3']:
  """The videos of the prompts, uint8 `n t h w 3`, each from the key of its number."""
  keys = video_keys(0, jnp.asarray(numbers))
  made = model.generate(model.encode(prompts, condition), keys)
  return np.stack([video.to_uint8(np.asarray(one)) for one in made])


def at_once(model: Model, prompt: str, number: int) -> Clip:
  """All frames together."""
  return generated(model, [prompt], [number])[0]


def alone(model: Model, frames: int, prompt: str, number: int) -> Clip:
  """Every frame without the others."""
  numbers = number * frames + np.arange(frames)
  return generated(model, [prompt] * frames, numbers)[:, 0]


def in_between(keys: Model, between: Model, frames: int, prompt: str, number: int) -> Clip:
  """Keyframes, and then the frames in between, in windows one after the other."""
  first = generated(keys, [prompt], [number])[0]
  window = between.config.data.frames
  masked_video = np.zeros((frames, *first.shape[1:]), np.uint8)
  masked_video[::KEYFRAME_STEP] = first
  result = masked_video.copy()
  for start in starts(frames, window):
    part = slice(start, start + window)
    mask = keyframes((window, *first.shape[1:3]))[None, ..., None]
    clip = video.to_float(masked_video[part])[None]
    condition = Condition.from_mask(jnp.asarray(clip), jnp.asarray(mask, jnp.float32))
    result[part] = generated(between, [prompt], [number], condition)[0]
  return result


def starts(frames: int, window: int) -> list[int]:
  """The first frames of windows, each of which is a keyframe: a window begins with the last
  keyframe of the one before, and the last one ends with the last frame."""
  return [*range(0, frames - window, window - KEYFRAME_STEP), frames - window]


def row(name: str, clips: Sequence[Clip], scenes: Sequence[synthetic.Scene]) -> str:
  """One row of the table."""
  verdicts = [judge(clip) for clip in clips]
  right = [[getattr(v, f) == getattr(s, f) for f in FACTS] for v, s in zip(verdicts, scenes)]
  shares = [*np.mean(right, 0), np.mean([all(facts) for facts in right])]
  steady = means(steadiness(clip, scene.motion) for clip, scene in zip(clips, scenes))
  cells = [f'{share:.0%}' for share in shares] + [f'{steady[name]:.3g}' for name in NAMES]
  return f'| {name} | ' + ' | '.join(cells) + ' |'


def main() -> None:
  f = flags.FLAGS
  output = f.output and chart.require_png(f.output)
  bases = {
    name: find_base(f[f'{name}workdir'].value, masked=name == 'between_')
    for name in ('', 'image_', 'keyframes_', 'between_')
  }
  frames = bases[''].config.data.frames
  if bases['keyframes_'].config.data.frames * KEYFRAME_STEP != frames:
    raise UserError(f'The keyframes have to be every {KEYFRAME_STEP}th of {frames} frames.')
  if (image_frames := bases['image_'].config.data.frames) != 1:
    raise UserError(f'{f.image_workdir} makes {image_frames} frames; allowed is an image model.')
  if (window := bases['between_'].config.data.frames) % KEYFRAME_STEP or window > frames:
    raise UserError(
      f'{f.between_workdir} makes {window} frames at a time; allowed are multiples of '
      f'{KEYFRAME_STEP} up to {frames}.'
    )
  models = {
    name: open_model(base, frames if name == 'image_' else 1) for name, base in bases.items()
  }
  methods: dict[str, Make] = {
    'at once': functools.partial(at_once, models['']),
    'keyframes': functools.partial(in_between, models['keyframes_'], models['between_'], frames),
    'alone': functools.partial(alone, models['image_'], frames),
  }
  scenes = [synthetic.prompt(FIRST_PROMPT + i) for i in range(f.count)]
  print('| frames | ' + ' | '.join([*FACTS, 'all', *NAMES]) + ' |')
  print('| --- ' * (2 + len(FACTS) + len(NAMES)) + '|')
  shown = []
  for name, make in methods.items():
    clips = [make(scene.caption, i) for i, scene in enumerate(tqdm(scenes, desc=name))]
    print(row(name, clips, scenes), flush=True)
    shown.append([(f'{name}: {s.caption}', clip) for s, clip in zip(scenes, clips)][: f.shown])
  if output:
    slices = [one for those in zip(*shown) for one in those]  # the methods of a prompt together
    chart.save(Image.fromarray(picture(slices)), output)
    print(output)


if __name__ == '__main__':
  flags.DEFINE_string('workdir', 'checkpoints/demo/t2v', 'Workdir of the video model.')
  flags.DEFINE_string('image_workdir', 'checkpoints/demo/t2i', 'Workdir of the image model.')
  flags.DEFINE_string('keyframes_workdir', None, 'Workdir of the keyframes.', required=True)
  flags.DEFINE_string('between_workdir', None, 'Workdir of frames in between.', required=True)
  flags.DEFINE_string('output', None, 'Image file of X-T slices to write to, .png.')
  flags.DEFINE_integer('count', 100, 'Number of videos.', lower_bound=1)
  flags.DEFINE_integer('shown', 3, 'Number of prompts in the picture.', lower_bound=1)
  command.run(main)
