r"""Makes videos with a trained model: of a text, and of what else it is given.

  python sample.py text_to_video --prompt='a red circle moving right on a black background'
  python sample.py image_to_video --image=photo.jpg --prompt=TEXT
  python sample.py inpaint --video=clip.mp4 --mask=mask.png --prompt=TEXT
  python sample.py outpaint --video=clip.mp4 --pad=64,0,64,0 --prompt=TEXT
  python sample.py cinemagraph --image=photo.jpg --mask=mask.png --prompt=TEXT
  python sample.py edit --video=clip.mp4 --strength=0.6 --prompt=TEXT
  python sample.py stylize --style=style.npz --alpha=0.8 --prompt=TEXT

White in a mask is what is to be made.  What a TPU slice that is not there would take to make videos
of texts, with models that need not be trained:

  python sample.py --config=configs/t2v.py:paper --ssr_config=configs/ssr.py:paper \
    --compile_for=v5p:2x2x2 --output=forecast.json
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import pathlib
import sys
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from core import command, video
from core.condition import Condition
from core.typing import Params
from data import pictures, prompts
from diffusion.sampling import SAMPLERS, SPACINGS, InitialVideo
from pipelines import conditional, jobs, style
from pipelines.forecast import forecast_videos
from pipelines.run import Model, run
from pipelines.stages import open_stage
from training.compile_for import report

_PROMPT = flags.DEFINE_string(
  'prompt', 'a red circle moving right on a black background', 'What the video shows.'
)
_PROMPTS_FILE = flags.DEFINE_string(
  'prompts_file', None, 'A list of prompts, instead of --prompt: .txt, .tsv, .json or .jsonl.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Where the model was trained: checkpoints/demo/t2v by default, or checkpoints/demo/t2v_masked '
  'where it is given part of the video.',
)
_IMAGE = flags.DEFINE_string('image', None, 'The first frame, or all that does not move.')
_VIDEO = flags.DEFINE_string('video', None, 'The video to complete or to edit.')
_MASK = flags.DEFINE_string('mask', None, 'An image or a video, white where the video is made.')
_BOX = flags.DEFINE_list('box', None, 'x,y,width,height in pixels of the input, instead of --mask.')
_PAD = flags.DEFINE_list(
  'pad', None, 'left,top,right,bottom: pixels of the video that are made, around --video.'
)
for _four in (_BOX, _PAD):
  flags.register_validator(
    _four,
    lambda value: value is None or (len(value) == 4 and all(n.isdecimal() for n in value)),
    'allowed are four whole numbers, as in 8,0,8,0',
  )
_STRENGTH = flags.DEFINE_float(
  'strength',
  0.6,
  'How much of --video is made anew, from 0, nothing, to 1, all.',
  lower_bound=0.0,
  upper_bound=1.0,
)
_STYLE = flags.DEFINE_string('style', None, 'A file that pipelines.style wrote.')
_ALPHA = flags.DEFINE_float(
  'alpha', 1.0, 'How much of it: 0 is none, the paper has 0.5 to 1.', 0.0, upper_bound=1.0
)
_FIT = flags.DEFINE_enum('fit', 'crop', pictures.FITS, 'How images and videos are made square.')
_CLIP = flags.DEFINE_enum(
  'clip', 'exact', ('exact', 'start'), 'Whether --video is as long as what is made, or longer.'
)
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'The file: .gif, .mp4, .npy, .png or .webp; out.mp4 by default.  Several videos of a prompt are '
  'out_0.mp4, out_1.mp4 and so on.  With --prompts_file the folder, out by default, made if it is '
  'not there: 000_the_prompt.mp4 and so on, and index.jsonl, which says what each of them is.',
)
_NUM_VIDEOS = flags.DEFINE_integer('num_videos', 1, 'Videos of each prompt.', lower_bound=1)
_BATCH = flags.DEFINE_integer('batch', 1, 'Videos made at once.', lower_bound=1)
_SEED = flags.DEFINE_integer('seed', 0, 'Of all noise.', lower_bound=0, upper_bound=2**32 - 1)
_NUM_FRAMES = flags.DEFINE_integer('num_frames', None, "The model's by default.", lower_bound=1)
_SAMPLER = flags.DEFINE_enum('sampler', None, sorted(SAMPLERS), "The model's by default.")
_SPACING = flags.DEFINE_enum(
  'spacing', None, sorted(SPACINGS), "Of its steps in time; the model's by default."
)
_STEPS = flags.DEFINE_integer('steps', None, "The model's by default.", lower_bound=1)
_GUIDANCE = flags.DEFINE_float('guidance', None, "The model's by default.", lower_bound=0.0)
_BASE_ONLY = flags.DEFINE_bool('base_only', False, 'Leaves super-resolution out.')
_SSR_WORKDIR = flags.DEFINE_string(
  'ssr_workdir', None, 'Where the super-resolution was trained: `ssr` beside --workdir by default.'
)
_SSR_SPACING = flags.DEFINE_enum('ssr_spacing', None, sorted(SPACINGS), "The model's by default.")
_SSR_STEPS = flags.DEFINE_integer('ssr_steps', None, "The model's by default.", lower_bound=1)
_SSR_GUIDANCE = flags.DEFINE_float('ssr_guidance', None, "The model's by default.", lower_bound=0.0)
_WINDOW = flags.DEFINE_integer(
  'window', None, "Frames it sees at once; the model's by default.", lower_bound=1
)
_OVERLAP = flags.DEFINE_integer(
  'overlap', None, "Frames that neighbouring windows share; the model's by default.", lower_bound=0
)
_AUG_LEVEL = flags.DEFINE_float(
  'aug_level',
  None,
  'Noise that is added before super-resolution: the more, the less it keeps to the small video.  '
  "The model's by default.",
  lower_bound=0.0,
  upper_bound=1.0,
)
_UPSCALE = flags.DEFINE_integer('upscale', 1, 'A pixel is a square of this side.', lower_bound=1)
_XT_SLICE = flags.DEFINE_string(
  'xt_slice', None, 'An image, .png, of the middle row of every frame, stacked over time.'
)
_COMPILE_FOR = flags.DEFINE_string(
  'compile_for',
  None,
  'A TPU slice, v5p:4x4x8, for which all is compiled that makes --batch videos.',
)
_CONFIG = config_flags.DEFINE_config_file('config', None, 'With --compile_for, of the model.')
_SSR_CONFIG = config_flags.DEFINE_config_file(
  'ssr_config', None, 'With --compile_for, of the super-resolution, if there is any.'
)


def text_to_video() -> None:
  """A video of every prompt."""
  if _COMPILE_FOR.value is None:
    return _make(())
  if not _CONFIG.value:
    raise UserError('--compile_for needs --config=configs/t2v.py:SCALE.')
  output = command.json_file(_OUTPUT.value)
  configs = _CONFIG.value, _SSR_CONFIG.value
  report(forecast_videos(*configs, _COMPILE_FOR.value, _BATCH.value), output)


def image_to_video() -> None:
  """Videos that begin with --image."""

  def condition(data, side):
    image = pictures.read_image(_path('image'), _tell)
    image = pictures.fitted(image, side, side, _FIT.value)
    return conditional.image_to_video(image, data.frames)

  _make(('image', 'fit'), condition)


def inpaint() -> None:
  """--video with what is hidden by --mask, or in --box, made anew."""

  def condition(data, side):
    clip = _clip(data)
    return conditional.inpainting(*_square(clip, _hidden(clip, data), side))

  _make(('video', 'mask', 'box', 'fit', 'clip'), condition)


def outpaint() -> None:
  """--video inside a border, which is made."""

  def condition(data, side):
    left, top, right, bottom = border = [int(n) for n in _PAD.value or (0, 0, 0, 0)]
    height, width = side - top - bottom, side - left - right
    if not any(border) or min(height, width) < 1:
      raise UserError(
        f'Got --pad={",".join(map(str, border))}; allowed is a border inside {side}x{side} pixels, '
        'of one or more.'
      )
    clip = pictures.fitted(_clip(data), height, width, _FIT.value)
    return conditional.outpainting(clip, *border)

  _make(('video', 'pad', 'fit', 'clip'), condition)


def cinemagraph() -> None:
  """--image, which moves where --mask is white, or in --box."""

  def condition(data, side):
    image = pictures.read_image(_path('image'), _tell)
    return conditional.cinemagraph(*_square(image, _hidden(image, data), side), data.frames)

  _make(('image', 'mask', 'box', 'fit'), condition)


def edit() -> None:
  """--video, noised to --strength, and made of that again as the prompt says (SDEdit), in a style
  if one is given."""

  def initial_video(data):
    clip = pictures.fitted(_clip(data), data.size, data.size, _FIT.value)
    return InitialVideo(jnp.asarray(video.to_float(clip))[None], jnp.asarray(_STRENGTH.value))

  inputs = ('video', 'strength', 'fit', 'clip', 'style')
  if _STYLE.value:
    _make((*inputs, 'alpha'), initial_video=initial_video, styled=_styled)
  else:
    _make(inputs, initial_video=initial_video)


def stylize() -> None:
  """A video of every prompt, in a style."""
  _make(('style', 'alpha'), styled=_styled)


def _styled(params: Params) -> Params:
  """The model's parameters in --style, or an error that says what is wrong with that."""
  return style.blended(params, style.load(_path('style')), _ALPHA.value)


def _make(
  inputs: Sequence[str],
  condition: Callable[[ConfigDict, int], Condition] | None = None,
  initial_video: Callable[[ConfigDict], InitialVideo] | None = None,
  styled: Callable[[Params], Params] = lambda params: params,
) -> None:
  """Makes the videos the flags ask for, once all that can be wrong with them is ruled out.

  inputs: the flags, beside those for all videos, that say what to make them of.
  condition: all but the text, of videos with these `config.data`, as squares of this side.
  """
  brought = _inputs(inputs)
  todo = _jobs()
  base = _base(masked=condition is not None)
  open_stage(base.config)  # whose errors come before anything is read
  if ssr := _super_resolution(base):
    open_stage(ssr.config)
  d, factor = base.config.data, ssr.config.degrade.factor if ssr else 1
  jobs.require_room(todo, d.frames, factor * d.size, _UPSCALE.value)
  inputs = dict(initial_video=initial_video and initial_video(d))
  if condition:
    inputs['condition'] = condition(d, factor * d.size)
  seed = _SEED.value
  made_by = base.made_by('', seed) | (ssr.made_by('ssr_', seed) if ssr else {})
  made_by |= {'fps': d.fps} | brought
  batch = min(_BATCH.value, len(todo))
  for job, pixels in run(todo, base, ssr, batch=batch, seed=seed, styled=styled, **inputs):
    job.write(pixels, fps=d.fps, upscale=_UPSCALE.value, made_by=made_by)
    print(*filter(None, (job.path, job.xt_slice)), sep='\n')
  if _PROMPTS_FILE.value is not None:
    print(jobs.write_index(todo, made_by))


def _inputs(allowed: Sequence[str]) -> dict[str, str]:
  """What the metadata says of the inputs; ValueError for one that is of no use."""
  inputs = (_IMAGE, _VIDEO, _MASK, _BOX, _PAD, _STRENGTH, _STYLE, _ALPHA, _FIT, _CLIP)
  if useless := [f'--{flag.name}' for flag in inputs if flag.present and flag.name not in allowed]:
    these = ', '.join(f'--{name}' for name in allowed) or 'none but a prompt'
    raise UserError(f'{", ".join(useless)}: of no use here; allowed inputs are {these}.')
  said = lambda value: ','.join(value) if isinstance(value, list) else value
  return {flag.name: said(flag.value) for flag in inputs if flag.present}


def _base(masked: bool) -> Model:
  """The model that makes videos of prompts, as the flags change it."""
  workdir = _WORKDIR.value or f'checkpoints/demo/{"t2v_masked" if masked else "t2v"}'
  return Model.of_videos(
    pathlib.Path(workdir),
    masked=masked,
    frames=_NUM_FRAMES.value,
    sampler=_SAMPLER.value,
    spacing=_SPACING.value,
    steps=_STEPS.value,
    guidance=_GUIDANCE.value,
  )


def _super_resolution(base: Model) -> Model | None:
  """The model that makes them large; None where none does."""
  if _BASE_ONLY.value:
    return None
  workdir = pathlib.Path(_SSR_WORKDIR.value or base.workdir.absolute().with_name('ssr'))
  if _SSR_WORKDIR.value is None and not workdir.is_dir():
    tqdm.write(f'no {workdir}: the video stays small; --ssr_workdir=DIR makes it large', sys.stderr)
    return None
  return Model.of_super_resolution(
    workdir,
    base.config.data,
    spacing=_SSR_SPACING.value,
    steps=_SSR_STEPS.value,
    guidance=_SSR_GUIDANCE.value,
    window=_WINDOW.value,
    overlap=_OVERLAP.value,
    aug_level=_AUG_LEVEL.value,
  )


def _jobs() -> list[jobs.Job]:
  """The videos to make.  The prompts are there and the files can be written, or it is an error."""
  xt_slice = None if _XT_SLICE.value is None else pathlib.Path(_XT_SLICE.value)
  if _PROMPTS_FILE.value is None:
    output = pathlib.Path(_OUTPUT.value or 'out.mp4')
    return jobs.of_prompt(_PROMPT.value, _NUM_VIDEOS.value, output, xt_slice)
  if xt_slice:
    raise UserError('--xt_slice is for one --prompt, not for a --prompts_file.')
  folder = pathlib.Path(_OUTPUT.value or 'out')
  return jobs.of_list(prompts.read(pathlib.Path(_PROMPTS_FILE.value)), _NUM_VIDEOS.value, folder)


def _clip(data: ConfigDict):
  """So much of the video as is made."""
  longer = _CLIP.value == 'start'
  return pictures.read_clip(_path('video'), frames=data.frames, fps=data.fps, longer=longer)


def _hidden(clip: conditional.Clip, data: ConfigDict) -> conditional.Mask:
  """Where the clip is made."""
  if (_MASK.value is None) == (_BOX.value is None):
    raise UserError('Got both or none of --mask and --box; allowed is one of the two.')
  if _BOX.value is not None:
    return conditional.boxed(clip, *map(int, _BOX.value))
  return pictures.read_mask(_path('mask'), clip, fps=data.fps, tell=_tell)


def _square(clip: conditional.Clip, mask: conditional.Mask, side: int):
  """Both with frames of this side."""
  size = side, side, _FIT.value
  fitted = pictures.fitted_mask(mask, *size)
  if mask.any() and not fitted.any():
    _tell(f'--fit={_FIT.value} cuts off all that the mask hides: nothing is made.')
  return pictures.fitted(clip, *size), fitted


def _path(flag: str) -> pathlib.Path:
  """The file that a flag names, which it has to."""
  if not (value := flags.FLAGS[flag].value):
    raise UserError(f'--{flag}=FILE is needed.')
  return pathlib.Path(value)


def _tell(note: str) -> None:
  tqdm.write(note, sys.stderr)


VERBS = {
  of.__name__: of
  for of in (text_to_video, image_to_video, inpaint, outpaint, cinemagraph, edit, stylize)
}

if __name__ == '__main__':
  command.run_verb(VERBS)
