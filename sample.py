r"""Makes videos with a trained model: of a text, and of images, videos and styles.

  python sample.py text_to_video --prompt='a red circle moving right on a black background'
  python sample.py inpaint --video=clip.mp4 --mask=mask.png --prompt=TEXT

With --compile_for it forecasts what sampling would take on a TPU slice that need not be at hand,
with models that need not be trained:

  python sample.py --config=configs/t2v.py:paper --ssr_config=configs/ssr.py:paper \
    --compile_for=v5p:2x2x2 --output=forecast.json
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import functools
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from core import command, video
from core.condition import Condition
from core.frame_size import height_width
from core.typing import Params
from core.usage import Verb
from data import pictures, prompts
from diffusion.sampling import SAMPLERS, SPACINGS, InitialVideo
from pipelines import Pipeline, conditional, jobs, style
from pipelines.checkpoints import Checkpoint, find_base, find_super_resolution, set_size
from pipelines.forecast import forecast_videos
from training import processes
from training.compile_for import report

DEMO_PROMPT = 'a red circle moving right on a black background'

_PROMPT = flags.DEFINE_string(
  'prompt',
  None,
  f'The text that says what the video shows.  Only text_to_video has a default, {DEMO_PROMPT!r}.',
)
_PROMPTS_FILE = flags.DEFINE_string(
  'prompts_file',
  None,
  'A file with a list of prompts, in place of --prompt.  It ends in .txt, .tsv, .json or .jsonl.',
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'The folder in which the video model was trained.  The default is checkpoints/demo/t2v, or '
  'checkpoints/demo/t2v_masked for verbs that keep part of an image or a video.',
)
_IMAGE = flags.DEFINE_string(
  'image',
  None,
  'The image from which the video is made: its first frame, or in a cinemagraph all that is still.',
)
_VIDEO = flags.DEFINE_string('video', None, 'The video to complete or to edit.')
_MASK = flags.DEFINE_string(
  'mask',
  None,
  'An image or a video that is white where --video or --image is hidden from the model, which '
  'generates these pixels; the others are kept.',
)
_BOX = flags.DEFINE_list(
  'box',
  None,
  'The rectangle that is hidden from the model, which generates its pixels, in place of --mask: '
  'x,y,width,height in pixels of the input.',
)
_PAD = flags.DEFINE_list(
  'pad',
  None,
  'The border that is generated around --video: left,top,right,bottom in pixels of the result.',
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
  'The noise level up to which --video is noised before it is denoised towards the prompt: 0 '
  'leaves the video as it is, 1 leaves nothing of it.',
  lower_bound=0.0,
  upper_bound=1.0,
)
_STYLE = flags.DEFINE_string('style', None, 'The file of a style, as pipelines.style writes one.')
_ALPHA = flags.DEFINE_float(
  'alpha',
  1.0,
  "The weight of the style's parameters in their mean with the model's: 0 is no style, and the "
  'paper uses 0.5 to 1.',
  lower_bound=0.0,
  upper_bound=1.0,
)
_FIT = flags.DEFINE_enum(
  'fit',
  'crop',
  pictures.FITS,
  'How images and videos of another shape fill the frame: by cropping what is beyond it, or by '
  'padding with black what they leave free.',
)
_CLIP = flags.DEFINE_enum(
  'clip',
  'exact',
  ('exact', 'start'),
  'Whether --video must be exactly as long as the result, or may be longer, so that only its start '
  'is used.',
)
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'The file to write: .gif, .mp4, .npy, .png or .webp.  The default is out.mp4.  Several videos of '
  'one prompt are numbered: out_0.mp4, out_1.mp4 and so on.  With --prompts_file this is a folder, '
  'by default out, made if it does not exist, for 000_the_prompt.mp4 and so on and an index.jsonl '
  'that describes them.',
)
_NUM_VIDEOS = flags.DEFINE_integer(
  'num_videos', 1, 'The number of videos of each prompt.', lower_bound=1
)
_BATCH = flags.DEFINE_integer(
  'batch', 1, 'The number of videos that are generated at the same time.', lower_bound=1
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'The seed of all noise.', lower_bound=0, upper_bound=2**32 - 1
)
_NUM_FRAMES = flags.DEFINE_integer(
  'num_frames', None, "The number of frames.  The default is the model's.", lower_bound=1
)
_SIZE = flags.DEFINE_string(
  'size',
  None,
  'The height and width of the videos in pixels, as in 64x128, after super-resolution if there is '
  'one.  The default is that of training.',
)
flags.register_validator(
  _SIZE,
  lambda value: value is None or re.fullmatch('[1-9][0-9]{0,5}x[1-9][0-9]{0,5}', value) is not None,
  'allowed are a height and a width in pixels, as in 64x128',
)
_SAMPLER = flags.DEFINE_enum(
  'sampler', None, sorted(SAMPLERS), "The sampler.  The default is the model's."
)
_SPACING = flags.DEFINE_enum(
  'spacing',
  None,
  sorted(SPACINGS),
  "How the times of the denoising steps are spaced.  The default is the model's.",
)
_STEPS = flags.DEFINE_integer(
  'steps', None, "The number of denoising steps.  The default is the model's.", lower_bound=1
)
_GUIDANCE = flags.DEFINE_float(
  'guidance',
  None,
  "The scale of classifier-free guidance: 1 is none.  The default is the model's.",
  lower_bound=0.0,
)
_BASE_ONLY = flags.DEFINE_bool('base_only', False, 'Whether to leave out super-resolution.')
_SSR_WORKDIR = flags.DEFINE_string(
  'ssr_workdir',
  None,
  'The folder in which the super-resolution model was trained.  The default is the folder ssr '
  'beside --workdir, if there is one.',
)
_SSR_SPACING = flags.DEFINE_enum(
  'ssr_spacing',
  None,
  sorted(SPACINGS),
  "How the times of super-resolution's steps are spaced.  The default is its model's.",
)
_SSR_STEPS = flags.DEFINE_integer(
  'ssr_steps',
  None,
  "The number of steps of super-resolution.  The default is its model's.",
  lower_bound=1,
)
_SSR_GUIDANCE = flags.DEFINE_float(
  'ssr_guidance',
  None,
  "The scale of super-resolution's guidance: 1 is none.  The default is its model's.",
  lower_bound=0.0,
)
_WINDOW = flags.DEFINE_integer(
  'window',
  None,
  "The number of frames in a window of super-resolution.  The default is its model's.",
  lower_bound=1,
)
_OVERLAP = flags.DEFINE_integer(
  'overlap',
  None,
  'The number of frames that neighbouring windows of super-resolution share.  The default is its '
  "model's.",
  lower_bound=0,
)
_AUG_LEVEL = flags.DEFINE_float(
  'aug_level',
  None,
  'The noise level of the low-resolution video in super-resolution, from 0 to 1: the higher it is, '
  'the less closely the result follows that video.  The default is the value of its model.',
  lower_bound=0.0,
  upper_bound=1.0,
)
_UPSCALE = flags.DEFINE_integer(
  'upscale',
  1,
  'The factor by which the written frames are enlarged, by repeating pixels.',
  lower_bound=1,
)
_XT_SLICE = flags.DEFINE_string(
  'xt_slice',
  None,
  'A .png image to write of the X-T slice, which is the middle row of every frame, stacked over '
  'time.',
)
_COMPILE_FOR = flags.DEFINE_string(
  'compile_for',
  None,
  'A TPU slice, as v5p:4x4x8, for which sampling --batch videos is compiled and not run, to '
  'forecast its memory and time.  --output is then a .json file, to which these are also written.',
)
_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'The config of the video model that --compile_for compiles.'
)
_SSR_CONFIG = config_flags.DEFINE_config_file(
  'ssr_config',
  None,
  'The config of the super-resolution model that --compile_for compiles, if any.',
)


_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'The address of process 0, HOST:PORT, if many processes generate each video together; with auto, '
  'JAX finds it.  It is not needed under a job scheduler that JAX supports.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes',
  None,
  'The number of processes; 1 runs this process alone, even under a job scheduler.',
  lower_bound=1,
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'The number of this process, from 0.', lower_bound=0
)


def text_to_video() -> None:
  """Makes a video of each prompt; with --compile_for, forecasts what that takes."""
  if _COMPILE_FOR.value is not None:
    return _forecast()
  if useless := [f'--{flag.name}' for flag in (_CONFIG, _SSR_CONFIG) if flag.present]:
    raise UserError(f'{", ".join(useless)}: allowed with --compile_for only; see --workdir.')
  _make(default_prompt=DEMO_PROMPT)


def _forecast() -> None:
  """Prints what sampling takes on the slice --compile_for."""
  if not _CONFIG.value:
    raise UserError('--compile_for needs --config=configs/t2v.py:SCALE.')
  allowed = ('compile_for', 'config', 'ssr_config', 'batch', 'output')
  others = (name for name in VERBS['text_to_video'].names if name not in allowed)
  if useless := [f'--{name}' for name in others if flags.FLAGS[name].present]:
    raise UserError(
      f'{", ".join(useless)}: of no use with --compile_for; allowed are '
      f'{", ".join(f"--{name}" for name in allowed)}, and keys of the configs.'
    )
  output = command.json_file(_OUTPUT.value)
  configs = _CONFIG.value, _SSR_CONFIG.value
  report(forecast_videos(*configs, _COMPILE_FOR.value, _BATCH.value), output)


def image_to_video() -> None:
  """Makes videos whose first frame is --image."""

  def condition(data, size):
    image = pictures.read_image(_path('image'), _note)
    image = pictures.fitted(image, *size, _FIT.value)
    return conditional.image_to_video(image, data.frames)

  _make(condition)


def inpaint() -> None:
  """Makes videos from --video, of which the part that --mask or --box hides is generated."""

  def condition(data, size):
    clip = _read_clip(data)
    return conditional.inpainting(*_fit(clip, _read_hidden(clip, data), size))

  _make(condition)


def outpaint() -> None:
  """Makes videos from --video, around which a border is generated."""

  def condition(data, size):
    left, top, right, bottom = border = [int(n) for n in _PAD.value or (0, 0, 0, 0)]
    height, width = size[0] - top - bottom, size[1] - left - right
    if not any(border) or min(height, width) < 1:
      raise UserError(
        f'Got --pad={",".join(map(str, border))}; allowed is a border inside {size[0]}x{size[1]} '
        'pixels, of one or more.'
      )
    clip = pictures.fitted(_read_clip(data), height, width, _FIT.value)
    return conditional.outpainting(clip, *border)

  _make(condition)


def cinemagraph() -> None:
  """Makes videos of --image, of which the part that --mask or --box hides moves."""

  def condition(data, size):
    image = pictures.read_image(_path('image'), _note)
    return conditional.cinemagraph(*_fit(image, _read_hidden(image, data), size), data.frames)

  _make(condition)


def edit() -> None:
  """Makes videos from --video, noised up to --strength, and in a style if --style names one."""

  def initial_video(data):
    clip = pictures.fitted(_read_clip(data), *height_width(data.size), _FIT.value)
    return InitialVideo(jnp.asarray(video.to_float(clip))[None], jnp.asarray(_STRENGTH.value))

  if _STYLE.value:
    return _make(initial_video=initial_video, change=_style)
  if _ALPHA.present:
    raise UserError('--alpha: of no use without --style; allowed is --style=FILE beside it.')
  _make(initial_video=initial_video)


def stylize() -> None:
  """Makes a video of each prompt in the style --style."""
  _make(change=_style)


def _make(
  condition: Callable[[ConfigDict, tuple[int, int]], Condition] | None = None,
  initial_video: Callable[[ConfigDict], InitialVideo] | None = None,
  change: Callable[[], Callable[[Params], Params]] | None = None,
  default_prompt: str | None = None,
) -> None:
  """Makes the videos that the flags ask for.  All that can be wrong is refused before parameters
  are loaded, except for a style of another model.

  condition: returns all but the text, for videos of a `config.data` with frames of this size, h w.
  initial_video: returns the video from which sampling starts, for a `config.data`.
  change: returns the function from the base model's parameters to those that are sampled.

  All processes make the videos together, and the first one writes them.
  """
  who = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
  with processes.together(*who, command.report):
    read = [flag.value for flag in (_PROMPTS_FILE, _IMAGE, _VIDEO, _MASK, _STYLE)]
    processes.require_same(command.ROOT, processes.of_command(VERBS, read))
    inputs = condition, initial_video, change and change()
    _make_together(_jobs(default_prompt), *inputs)


def _make_together(todo: list[jobs.Job], condition, initial_video, change) -> None:
  is_first = jax.process_index() == 0
  base = _find_base(masked=condition is not None)
  ssr = _find_super_resolution(base)
  if _SIZE.value:
    set_size(base, ssr, [int(n) for n in _SIZE.value.split('x')])
  batch, d = min(_BATCH.value, len(todo)), base.config.data
  pipeline = Pipeline.open(base, ssr, batch=batch, progress=sys.stderr.isatty())
  if is_first:
    jobs.require_room(todo, d.frames, pipeline.size, _UPSCALE.value)
  inputs = {'initial_video': initial_video and initial_video(d)}
  if condition:
    inputs['condition'] = condition(d, pipeline.size)
  made_by = base.made_by(_SEED.value, ssr) | {'fps': d.fps} | _inputs()
  if not ssr and not _BASE_ONLY.value:
    workdir = base.workdir.absolute().with_name('ssr')
    _note(f'no {workdir}: the video keeps its low resolution; --ssr_workdir=DIR upscales it')
  pipeline = pipeline.load_params(base, ssr, change or (lambda params: params))
  for job, pixels in jobs.generate(todo, pipeline, seed=_SEED.value, **inputs):
    if is_first:
      job.write(pixels, fps=d.fps, upscale=_UPSCALE.value, made_by=made_by)
      print(*filter(None, (job.path, job.xt_slice)), sep='\n')
  if is_first and _PROMPTS_FILE.value is not None:
    print(jobs.write_index(todo, made_by))


def _jobs(default_prompt: str | None) -> list[jobs.Job]:
  """The videos to make.  UserError if there is no prompt or a file cannot be written."""
  is_first = jax.process_index() == 0
  xt_slice = None if _XT_SLICE.value is None else pathlib.Path(_XT_SLICE.value)
  if _PROMPTS_FILE.value is None:
    prompt = default_prompt if _PROMPT.value is None else _PROMPT.value
    if prompt is None:
      raise UserError('Got no prompt; --prompt=TEXT or --prompts_file=FILE is needed.')
    output = pathlib.Path(_OUTPUT.value or 'out.mp4')
    todo = jobs.of_prompt(prompt, _NUM_VIDEOS.value, output, xt_slice)
    if is_first:
      jobs.require_writable(todo)
    return todo
  if _PROMPT.value is not None:
    raise UserError('Got both --prompt and --prompts_file; allowed is one of the two.')
  if xt_slice:
    raise UserError('--xt_slice is for one --prompt, not for a --prompts_file.')
  folder = pathlib.Path(_OUTPUT.value or 'out')
  listed = prompts.read(pathlib.Path(_PROMPTS_FILE.value))
  todo = jobs.of_list(listed, _NUM_VIDEOS.value, folder)
  if is_first:
    jobs.require_folder(todo)
  return todo


def _find_base(masked: bool) -> Checkpoint:
  """The checkpoint that makes videos of prompts, with the changes that flags make to its config."""
  return find_base(
    _WORKDIR.value or f'checkpoints/demo/{"t2v_masked" if masked else "t2v"}',
    masked=masked,
    frames=_NUM_FRAMES.value,
    sampler=_SAMPLER.value,
    spacing=_SPACING.value,
    steps=_STEPS.value,
    guidance=_GUIDANCE.value,
  )


def _find_super_resolution(base: Checkpoint) -> Checkpoint | None:
  """The checkpoint of super-resolution, with the changes of flags; None if there is none."""
  if _BASE_ONLY.value:
    return None
  workdir = pathlib.Path(_SSR_WORKDIR.value or base.workdir.absolute().with_name('ssr'))
  if _SSR_WORKDIR.value is None and not workdir.is_dir():
    return None
  return find_super_resolution(
    workdir,
    base.config.data,
    spacing=_SSR_SPACING.value,
    steps=_SSR_STEPS.value,
    guidance=_SSR_GUIDANCE.value,
    window=_WINDOW.value,
    overlap=_OVERLAP.value,
    aug_level=_AUG_LEVEL.value,
  )


def _inputs() -> dict[str, str]:
  """What the metadata says of the inputs: the flags that were set, and their values."""
  inputs = (_IMAGE, _VIDEO, _MASK, _BOX, _PAD, _STRENGTH, _STYLE, _ALPHA, _FIT, _CLIP)
  text = lambda value: ','.join(value) if isinstance(value, list) else value
  return {flag.name: text(flag.value) for flag in inputs if flag.present}


def _style() -> Callable[[Params], Params]:
  """A function that blends parameters with those of --style, which is read here.  It raises a
  UserError if the style is of another model."""
  return functools.partial(style.blended, style=style.load(_path('style')), alpha=_ALPHA.value)


def _read_clip(data: ConfigDict) -> conditional.Clip:
  """The frames of --video that are used."""
  longer = _CLIP.value == 'start'
  return pictures.read_clip(_path('video'), frames=data.frames, fps=data.fps, longer=longer)


def _read_hidden(clip: conditional.Clip, data: ConfigDict) -> conditional.Hidden:
  """True where the clip is hidden from the model: where --mask is white, or inside --box."""
  if (_MASK.value is None) == (_BOX.value is None):
    raise UserError('Got both or none of --mask and --box; allowed is one of the two.')
  if _BOX.value is not None:
    return conditional.hidden_box(clip, *map(int, _BOX.value))
  return pictures.read_mask(_path('mask'), clip, fps=data.fps, warn=_note)


def _fit(clip: conditional.Clip, hidden: conditional.Hidden, size: tuple[int, int]):
  """A clip, and where it is hidden, with frames of this size, h w."""
  size = *size, _FIT.value
  fitted = pictures.fitted_mask(hidden, *size)
  if hidden.any() and not fitted.any():
    _note(f'--fit={_FIT.value} cuts off all that is hidden: nothing is generated.')
  return pictures.fitted(clip, *size), fitted


def _path(flag: str) -> pathlib.Path:
  """The file that a flag names; UserError if the flag is not set."""
  if not (value := flags.FLAGS[flag].value):
    raise UserError(f'--{flag}=FILE is needed.')
  return pathlib.Path(value)


def _note(note: str) -> None:
  """Prints a line on stderr in the first process, above a progress bar."""
  if jax.process_index() == 0:
    tqdm.write(note, sys.stderr)


PROMPTS = ('prompt', 'prompts_file', 'num_videos')
FILES = ('output', 'upscale', 'xt_slice')
SAMPLING = ('workdir', 'num_frames', 'size', 'sampler', 'spacing', 'steps', 'guidance', 'batch')
SAMPLING += ('seed',)
PROCESSES = ('coordinator', 'num_processes', 'process_id')
SUPER_RESOLUTION = ('base_only', 'ssr_workdir', 'ssr_spacing', 'ssr_steps', 'ssr_guidance')
SUPER_RESOLUTION += ('window', 'overlap', 'aug_level')
FORECAST = ('compile_for', 'config', 'ssr_config')
CLIP, MASK, STYLE = ('video', 'clip', 'fit'), ('mask', 'box'), ('style', 'alpha')


def _verb(
  call: Callable[[], None], inputs: Sequence[str], example: str, **more: Sequence[str]
) -> Verb:
  """A verb that takes these flags as inputs, and all flags that have to do with sampling."""
  groups = {'inputs': (*PROMPTS, *inputs), 'files': FILES, 'sampling': SAMPLING}
  groups |= {'super-resolution': SUPER_RESOLUTION, 'many processes': PROCESSES} | more
  about = call.__doc__.splitlines()[0]
  return Verb(call, about, f'python sample.py {call.__name__} {example}', groups)


VERBS = {
  verb.call.__name__: verb
  for verb in (
    _verb(text_to_video, (), f'--prompt={DEMO_PROMPT!r}', forecast=FORECAST),
    _verb(image_to_video, ('image', 'fit'), '--image=photo.jpg --prompt=TEXT'),
    _verb(inpaint, (*CLIP, *MASK), '--video=clip.mp4 --mask=mask.png --prompt=TEXT'),
    _verb(outpaint, (*CLIP, 'pad'), '--video=clip.mp4 --pad=64,0,64,0 --prompt=TEXT'),
    _verb(cinemagraph, ('image', 'fit', *MASK), '--image=photo.jpg --mask=mask.png --prompt=TEXT'),
    _verb(edit, (*CLIP, 'strength', *STYLE), '--video=clip.mp4 --strength=0.6 --prompt=TEXT'),
    _verb(stylize, STYLE, '--style=style.npz --alpha=0.8 --prompt=TEXT'),
  )
}

if __name__ == '__main__':
  command.run_verb(VERBS, __doc__)
