"""The stages of training, one function for each kind, chosen by `config.stage` from a table.

A stage declares once which arrays its examples have (`batch`), how these become the condition of
the network (`make_condition`), and which fields a condition must have and may have in sampling
(`required_condition`, `optional_condition`).  Data, training and sampling read these declarations.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from core.condition import Condition
from core.errors import UserError
from core.frame_size import height_width, require_multiples
from core.params import TEACHER, cast_kernels, without_teacher
from core.sharding import replicate
from core.typing import Key, Params, Video
from data.masks import Masked
from data.mixture import names, open_sources, splits
from data.parts import wrapped
from data.pictures import Picture
from data.pipeline import SYNTHETIC
from diffusion import distillation
from diffusion.denoiser import composited, guided, network
from diffusion.process import Process
from diffusion.sampler import OnStep
from diffusion.sampling import THRESHOLDS
from pipelines.cascade import make_super_resolution
from pipelines.checks import require_student
from pipelines.default_conditions import with_empty_mask, with_null_text
from pipelines.text_to_video import make_text_to_video
from ssr.degrade import downsample, make_degrade
from ssr.model import adding_low_res, with_upsampled_low_res
from stunet.adapters import add_adapters, merge_adapters
from stunet.unet import STUNet
from text.encoder import open_encoder
from text.hashed import Encoder
from training import checkpoint
from training.monitor import log
from training.stage import Data, Shapes, Stage, model_stage
from training.step import Apply, condition_on_text, pixels

Init = Callable[..., Params]  # (key, xt, t, cond) -> params


def open_stage(
  config: ConfigDict,
  on_step: OnStep | None = None,
  mesh: jax.sharding.Mesh | None = None,
  encode: Encoder | None = None,
) -> Stage:
  """The stage of a config.  ValueError if a part of the config is wrong.

  on_step: called when a step of sampling is done: see `make_sample`.
  mesh: the devices over which super-resolution shards its windows.
  encode: the encoder of its texts; by default the one that the config names, which is opened when a
    text is first encoded.
  """
  if (name := config.get('stage')) not in STAGES:
    raise UserError(f'Unknown stage: {name!r}.  Allowed: {", ".join(sorted(STAGES))}.')
  encode = encode or (lambda texts: open_encoder(**config.text)(texts))
  return STAGES[name](config, encode, on_step, mesh)


def text_to_video(
  config: ConfigDict, encode: Encoder, on_step: OnStep | None, mesh: jax.sharding.Mesh | None
) -> Stage:
  """Images or videos from texts."""
  return _from_text(config, encode, *open_network(config, encode), on_step)


def masked_text_to_video(
  config: ConfigDict, encode: Encoder, on_step: OnStep | None, mesh: jax.sharding.Mesh | None
) -> Stage:
  """Videos from texts and from parts of a video, which a mask gives (Lumiere, Sec. 4.2)."""
  init, apply = open_network(config, encode)
  stage = _from_text(config, encode, init, with_empty_mask(apply), on_step)
  *shape, _ = stage.batch['video'].shape
  masked = functools.partial(Masked, mix=config.masks.to_dict())
  open_masked = lambda split: wrapped(stage.data.open(split), masked)
  return dataclasses.replace(
    stage,
    data=dataclasses.replace(stage.data, open=open_masked),
    batch={**stage.batch, 'mask': jax.ShapeDtypeStruct(tuple(shape), bool)},
    make_condition=condition_on_masked_video,
    optional_condition=('masked_video', 'mask'),
  )


def style(
  config: ConfigDict, encode: Encoder, on_step: OnStep | None, mesh: jax.sharding.Mesh | None
) -> Stage:
  """Images in the style of one picture, from low-rank adapters unless their rank is 0 (Lumiere,
  Sec. 4.1)."""
  init, apply = open_network(config, encode)
  s = config.style
  if s.rank:
    init = with_adapters(init, s.rank)
  caption = f'{s.content} {s.descriptor}'.strip()
  _require_one_shape(config)
  data = Data(
    name=s.image,
    splits=lambda: ['train'],
    open=lambda split: Picture(pathlib.Path(s.image), caption, config.data.size, warn=log),
    endless=True,
  )
  return dataclasses.replace(_from_text(config, encode, init, apply, on_step), data=data)


def super_resolution(
  config: ConfigDict, encode: Encoder, on_step: OnStep | None, mesh: jax.sharding.Mesh | None
) -> Stage:
  """Images or videos from texts and low-resolution videos (Lumiere, Sec. 3.2)."""
  init, apply = open_network(config, encode)
  _require_one_shape(config)
  process, d, factor = Process(**config.schedule), config.data, config.degrade.factor
  size = height, width = height_width(d.size)
  require_multiples(size, math.lcm(factor, STUNet(**config.model).spatial_factor))
  adding = config.get('residual', False)  # absent from workdirs of the first versions
  if adding and process.prediction != 'x0':
    raise UserError(f'A residual is of x0, but the prediction is {process.prediction}.')
  apply = (adding_low_res if adding else with_upsampled_low_res)(apply)
  low_res = (d.frames, height // factor, width // factor, 3)
  options = dict(mesh=mesh, on_step=on_step, augment=config.degrade.get('augment', 'small'))

  def sample_inputs(batch):
    n = len(config.sample_prompts)
    low_res = downsample(pixels(batch['video'][:n]), factor)
    titles = [f'clip {i} of the evaluation batch' for i in range(len(low_res))]
    return titles, Condition(batch['text'][:n], batch['text_mask'][:n], low_res=low_res)

  return Stage(
    init=with_upsampled_low_res(init),
    apply=apply,
    process=process,
    encode=encode,
    data=_clips(config),
    batch={**_video(config), **_text(config)},
    make_condition=make_degrade(**config.degrade),
    required_condition={**_text(config), 'low_res': jax.ShapeDtypeStruct(low_res, jnp.float32)},
    optional_condition=('masked_video', 'mask'),
    generate=make_super_resolution(apply, process, size, **options, **config.sampling),
    sample_inputs=sample_inputs,
  )


def distilled(
  config: ConfigDict, encode: Encoder, on_step: OnStep | None, mesh: jax.sharding.Mesh | None
) -> Stage:
  """A student of a model of another stage: see `diffusion.distillation`.

  The teacher's parameters are in a tree of their own, `TEACHER`, among the student's.  They are
  frozen, so that the workdir has them once; exports do not have them.
  """
  s, d = config.sampling, config.distill
  if d.stage not in STAGES or d.stage == config.stage:
    teachers = ', '.join(sorted(STAGES.keys() - {config.stage}))
    raise UserError(f'distill.stage is {d.stage!r}; allowed is that of the teacher: {teachers}.')
  require_student(config)
  stage = STAGES[d.stage](config, encode, on_step, mesh)
  process = stage.process
  times = distillation.step_times(process, s.spacing, s.steps, d.teacher_steps)
  threshold = THRESHOLDS[s.get('threshold', 'static')]

  def init(key, *inputs):
    params = stage.init(key, *inputs)
    return {**params, TEACHER: params}

  def apply(params, *inputs):
    return stage.apply(without_teacher(params), *inputs)

  def target(params, x0, eps, t, cond):
    teacher = threshold(guided(network(stage.apply, params[TEACHER], process), d.guidance))
    teacher = teacher if cond.mask is None else composited(teacher)
    return distillation.make_target(teacher, process, times, d.teacher_steps)(x0, eps, t, cond)

  to_times = distillation.to_times(times, d.teacher_steps)
  return dataclasses.replace(stage, init=init, apply=apply, target=target, times=to_times)


STAGES = {
  't2i': text_to_video,
  't2v': text_to_video,
  't2v_masked': masked_text_to_video,
  'style': style,
  'ssr_image': super_resolution,
  'ssr': super_resolution,
  'distill': distilled,
}


def _from_text(
  config: ConfigDict, encode: Encoder, init: Init, apply: Apply, on_step: OnStep | None
) -> Stage:
  """The stage of a network whose videos are sampled from texts alone."""
  process = Process(**config.schedule)
  model = STUNet(**config.model)
  model.check_frames(config.data.frames)
  require_multiples(config.data.size, model.spatial_factor)
  shape = _video(config)['video'].shape

  def sample_inputs(batch):
    prompts = config.sample_prompts
    return prompts, Condition(*map(jnp.asarray, encode(prompts)))

  return Stage(
    init=init,
    apply=apply,
    process=process,
    encode=encode,
    data=_clips(config),
    batch={**_video(config), **_text(config)},
    make_condition=condition_on_text,
    required_condition=_text(config),
    optional_condition=(),
    generate=make_text_to_video(apply, process, shape, on_step=on_step, **config.sampling),
    sample_inputs=sample_inputs,
  )


def open_network(config: ConfigDict, encode: Encoder) -> tuple[Init, Apply]:
  """`init` and `apply` of the U-Net of a config, with its kernels cast to the dtype of products."""
  model = STUNet(**config.model)
  init = lambda key, *inputs: model.init(key, *inputs)['params']

  def apply(params, *inputs):
    # Kernels are cast before they are gathered, which then sends half the bytes.
    params = cast_kernels(merge_adapters(params), model.dtype)
    return model.apply({'params': replicate(params)}, *inputs)

  # A program can be compiled for a text encoder that is not there yet, whose `source` is ''.
  if config.text.get('source', 'hashed') in ('', 'hashed'):
    return init, apply
  return init, with_null_text(apply, *map(jnp.asarray, encode([''])))


def with_adapters(init: Init, rank: int) -> Init:
  """`init(key, xt, t, cond)` whose parameters have low-rank adapters beside their kernels."""
  return lambda key, *inputs: add_adapters(init(key, *inputs), rank, jax.random.fold_in(key, rank))


def condition_on_masked_video(key: Key, x0: Video, batch: dict) -> Condition:
  """The text, and the pixels of the clean video where the batch's `mask` is true."""
  masked = Condition.from_mask(x0, batch['mask'][..., None].astype(x0.dtype))
  return masked.replace(text=batch['text'], text_mask=batch['text_mask'])


def _clips(config: ConfigDict) -> Data:
  """The clips that `config.data` names."""
  read = config.data.source, config.data.get('mixture', ())
  return Data(
    name=' and '.join(names(*read)),
    splits=lambda: splits(*read),
    open=lambda split: open_sources(**config.data, split=split),
    endless=set(names(*read)) == {SYNTHETIC},
  )


def _require_one_shape(config: ConfigDict) -> None:
  if buckets := config.data.get('buckets'):
    raise UserError(
      f'Got data.buckets={buckets} in the stage {config.stage}, which allows none; the stages t2i, '
      't2v and t2v_masked do.'
    )


def _video(config: ConfigDict) -> Shapes:
  d = config.data
  return {'video': jax.ShapeDtypeStruct((d.frames, *height_width(d.size), 3), jnp.uint8)}


def _text(config: ConfigDict) -> Shapes:
  n, width = config.text.tokens, config.text.width
  return {
    'text': jax.ShapeDtypeStruct((n, width), jnp.float32),
    'text_mask': jax.ShapeDtypeStruct((n,), bool),
  }


def super_resolution_config(workdir: pathlib.Path) -> ConfigDict:
  """The config of the model there; ValueError unless it is one of super-resolution."""
  config = checkpoint.load_config(workdir)
  if STAGES.get(model_stage(config)) is not super_resolution:
    raise UserError(f'{workdir} is not a model of super-resolution.')
  return config


def set_low_res_shape(config: ConfigDict, low_res: ConfigDict) -> ConfigDict:
  """The config of super-resolution, for whole videos of the size that this `config.data` says."""
  height, width = (n * config.degrade.factor for n in height_width(low_res.size))
  config.data.update(frames=low_res.frames, size=(height, width))
  return config
