"""What a config's stage is: its network, what that is told in training, and what it makes."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from core.condition import Condition
from core.errors import UserError
from core.given import Given
from core.params import cast_kernels
from core.sharding import replicate
from core.typing import Bool, Float, Key, Params, Video
from diffusion.process import Process
from diffusion.sampler import OnStep
from diffusion.sampling import Generate
from pipelines.cascade import make_super_resolution
from pipelines.text_to_video import make_text_to_video
from ssr.degrade import downsample, make_degrade
from ssr.model import beside_upsampled, beyond_upsampled
from stunet.adapters import adapted, merged
from stunet.unet import STUNet
from text.encoder import open_encoder
from training import checkpoint
from training.step import Apply, Conditioning, pixels, text_alone


@dataclasses.dataclass(frozen=True)
class Stage:
  """A network in its place."""

  init: Callable[..., Params]  # (key, xt, t, cond)
  apply: Apply
  conditioning: Conditioning
  process: Process
  generate: Generate
  # What to sample in training, made of a batch: what each is called, and their condition.
  examples: Callable[[dict], tuple[Sequence[str], Condition]]


def open_stage(
  config: ConfigDict, on_step: OnStep | None = None, mesh: jax.sharding.Mesh | None = None
) -> Stage:
  """The stage of a config.  ValueError where a part of the config is wrong.

  on_step: see `make_sample`.
  mesh: the devices over which super-resolution spreads its windows.
  """
  model, process, d = STUNet(**config.model), Process(**config.schedule), config.data
  init = lambda key, *inputs: model.init(key, *inputs)['params']

  def apply(params, *inputs):
    params = cast_kernels(
      merged(params), model.dtype
    )  # before it is sent to others: half the bytes
    return model.apply({'params': replicate(params)}, *inputs)

  # A workdir of before there were masks and styles has neither.
  if rank := config.get('style', {}).get('rank'):
    bare = init
    init = lambda key, *inputs: adapted(bare(key, *inputs), rank, jax.random.fold_in(key, rank))

  # Of an encoder that is not there yet, a program can be compiled, not more.
  if config.text.get('source', 'hashed') not in ('', 'hashed'):
    apply = hearing(apply, *map(jnp.asarray, open_encoder(**config.text)([''])))

  if not config.get('degrade'):
    model.check_frames(d.frames)
    shape, conditioning = (d.frames, d.size, d.size, 3), text_alone
    if config.get('masks'):
      apply, conditioning = beside_given(apply), given_too
    generate = make_text_to_video(apply, process, shape, on_step=on_step, **config.sampling)

    def prompted(batch):
      prompts = config.sample_prompts
      return prompts, Condition(*map(jnp.asarray, open_encoder(**config.text)(prompts)))

    return Stage(init, apply, conditioning, process, generate, prompted)

  def examples(batch):
    n = len(config.sample_prompts)
    small = downsample(pixels(batch['video'][:n]), config.degrade.factor)
    titles = [f'clip {i} of the evaluation batch' for i in range(len(small))]
    return titles, Condition(batch['text'][:n], batch['mask'][:n], frames=small)

  if config.get('residual') and process.prediction != 'x0':
    raise UserError(f'A residual is of x0, but the prediction is {process.prediction}.')
  degrade = make_degrade(**config.degrade)
  init = beside_upsampled(init)
  apply = (beyond_upsampled if config.get('residual') else beside_upsampled)(apply)
  options = dict(mesh=mesh, on_step=on_step, augment=config.degrade.get('augment', 'small'))
  generate = make_super_resolution(apply, process, (d.size, d.size), **options, **config.sampling)
  return Stage(init, apply, degrade, process, generate, examples)


def given_too(key: Key, x0: Video, batch: dict) -> Condition:
  """The condition of a model that is given what of the clean video is `known` in the batch."""
  given = Given.of(x0, batch['known'][..., None].astype(x0.dtype))
  return Condition(batch['text'], batch['mask'], given.channels)


def beside_given(apply: Apply) -> Apply:
  """`apply(params, xt, t, cond)` of a network which, where the condition gives it nothing of the
  video, is told so."""

  def told(params, xt, t, cond):
    if cond.frames is None:
      cond = cond.replace(frames=jnp.zeros((*xt.shape[:-1], xt.shape[-1] + 1), xt.dtype))
    return apply(params, xt, t, cond)

  return told


def hearing(apply: Apply, null: Float['1 n d'], null_mask: Bool['1 n']) -> Apply:
  """`apply(params, xt, t, cond)` of a network to which saying nothing is saying `null`.

  A text encoder that was trained has an embedding of the empty text, on which image models were
  trained where the text was left out (DeepFloyd IF).
  """

  def heard(params, xt, t, cond):
    if cond.mask is None:
      return apply(params, xt, t, cond)
    silent = ~cond.mask.any(-1)[:, None]
    text = jnp.where(silent[..., None], null.astype(cond.text.dtype), cond.text)
    return apply(params, xt, t, cond.replace(text=text, mask=cond.mask | silent & null_mask))

  return heard


def super_resolution_config(workdir: pathlib.Path) -> ConfigDict:
  """The config of the model there; ValueError unless it is one of super-resolution."""
  config = checkpoint.load_config(workdir)
  if not config.get('degrade'):
    raise UserError(f'{workdir} is not a model of super-resolution.')
  return config


def made_large(config: ConfigDict, small: ConfigDict) -> ConfigDict:
  """The config of super-resolution, of whole videos of this `config.data`."""
  config.data.update(frames=small.frames, size=small.size * config.degrade.factor)
  return config
