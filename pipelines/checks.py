"""What pipelines and stages refuse before anything is compiled: UserError says what is allowed."""

import numbers
from collections.abc import Sequence

from ml_collections import ConfigDict

from core import unicode
from core.condition import Condition
from core.errors import UserError
from core.frame_size import height_width
from diffusion.sampling import InitialVideo
from training.ranges import require_in_range
from training.stage import Stage

SEEDS = 2**32  # and numbers of videos
FROM_PROMPT = ('text', 'text_mask')  # fields of a condition
OPTIONS = ('guidance', 'sampler', 'spacing', 'steps', 'threshold')  # of sampling, in every config


def require_options(config: ConfigDict, changes: dict) -> None:
  """UserError unless these changes to `config.sampling` have its keys, types and ranges."""
  allowed = {*OPTIONS, *config.sampling.keys()}
  if config.get('distill') and (changed := sorted(changes.keys() & {*OPTIONS})):
    raise UserError(
      f'Got {", ".join(changed)} for a student of {config.sampling.steps} steps, which are part of '
      'what it has learned; its teacher takes them.'
    )
  if unknown := changes.keys() - allowed:
    raise UserError(
      f'Got the sampling options {", ".join(sorted(unknown))}; allowed are '
      f'{", ".join(sorted(allowed))}.'
    )
  for key, value in changes.items():
    kind = type(config.sampling.get(key, value))
    if not isinstance(value, numbers.Real if kind is float else kind):
      raise UserError(f'Got {key}={value!r}; allowed is a value of type {kind.__name__}.')
  require_in_range(ConfigDict({'sampling': changes}))


def require_student(config: ConfigDict) -> None:
  """UserError for what a student cannot have."""
  s = config.sampling
  if (s.sampler, s.guidance) != ('ddim', 1.0):
    raise UserError(
      f'Got sampling.sampler={s.sampler} and sampling.guidance={s.guidance:g}; a student needs '
      'ddim and 1.  The scale of guidance of its teacher is distill.guidance.'
    )
  if config.schedule.prediction == 'eps':  # at t = 1, eps says nothing of the clean video
    raise UserError('Got schedule.prediction=eps; allowed in distillation are v and x0.')
  if config.less_noisy or config.log_snr.std or config.high_noise != 1:
    raise UserError(
      'A student is trained at the times of its steps; allowed are less_noisy=0, log_snr.std=0 and '
      'high_noise=1.'
    )


def require_requests(prompts: Sequence[str], seed: int, video_numbers: Sequence[int]) -> None:
  """UserError unless there is a text for every video, with one number each."""
  if isinstance(prompts, str):
    raise UserError(f'Got the string {prompts!r} as prompts; allowed is a list of strings.')
  for prompt in prompts:
    if not isinstance(prompt, str) or not prompt.strip():
      raise UserError(f'Got the prompt {prompt!r}; allowed is any text that is not blank.')
    try:
      unicode.require(prompt)
    except ValueError as error:
      raise UserError(f'The prompt {error}; allowed is Unicode text.') from error
  if len(video_numbers) != len(prompts):
    raise UserError(
      f'Got {len(video_numbers)} numbers for {len(prompts)} prompts; allowed is one for each.'
    )
  for name, value in [('seed', seed), *(('number', n) for n in video_numbers)]:
    if not isinstance(value, numbers.Integral) or not 0 <= value < SEEDS:
      raise UserError(f'Got the {name} {value!r}; allowed is a whole number from 0 to {SEEDS - 1}.')


def require_condition(
  condition: Condition, stage: Stage, config: ConfigDict, size: tuple[int, int]
) -> None:
  """UserError unless the condition has the fields with which the base model's stage is sampled, in
  the shapes that the stage declares.

  size: h w of the videos that the pipeline returns; a masked video has the same.
  """
  present = {name for name, value in vars(condition).items() if value is not None}
  if texts := sorted(present & {*FROM_PROMPT}):
    raise UserError(f'Got a condition with {", ".join(texts)}, which come from the prompts.')
  required = stage.required_condition.keys() - {*FROM_PROMPT}
  allowed = required | {*stage.optional_condition}
  if unknown := sorted(present - allowed):
    others = f'allowed are {", ".join(sorted(allowed))}' if allowed else 'this model takes none'
    raise UserError(f'Got a condition with {", ".join(unknown)}; {others}.')
  if missing := sorted(required - present):
    raise UserError(f'The condition lacks {", ".join(missing)}, which this model requires.')
  for name in sorted(required):
    shape = (1, *stage.required_condition[name].shape)
    _require_shape(name, getattr(condition, name), shape)
  if (condition.mask is None) != (condition.masked_video is None):
    raise UserError('Got one of mask and masked_video; allowed are both or none.')
  if condition.mask is not None:
    shape = (1, config.data.frames, *size)
    _require_shape('mask', condition.mask, (*shape, 1))
    _require_shape('masked_video', condition.masked_video, (*shape, 3))


def require_initial_video(initial_video: InitialVideo, config: ConfigDict) -> None:
  """UserError unless the video has the shape of the base model's and its strength is a time."""
  d = config.data
  if config.get('distill'):
    raise UserError('A student of few steps starts from noise alone; its teacher takes a video.')
  _require_shape('initial_video', initial_video.video, (1, d.frames, *height_width(d.size), 3))
  if not 0 <= float(initial_video.strength) <= 1:
    raise UserError(f'Got strength={float(initial_video.strength):g}; allowed is 0 to 1.')


def _require_shape(name, array, shape):
  if array.shape != shape:
    raise UserError(f'Got {name} of shape {array.shape}; allowed is {shape}.')
