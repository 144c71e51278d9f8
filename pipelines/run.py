"""Videos of many prompts, from opened models to frames on the host, with a bar that tells of it."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from core.condition import Condition
from core.errors import UserError
from core.params import cast_kernels
from core.typing import Params
from diffusion.sampler import OnStep
from diffusion.sampling import InitialVideo
from pipelines.cascade import compile_super_resolution, to_host, window_mesh
from pipelines.jobs import Job
from pipelines.stages import (
  STAGES,
  masked_text_to_video,
  open_stage,
  set_low_res_shape,
  super_resolution,
  super_resolution_config,
)
from pipelines.text_to_video import compile_text_to_video
from text.encoder import open_encoder
from training import checkpoint


@dataclasses.dataclass(frozen=True)
class Model:
  """A model to sample: where it was trained, and its config with what the user changes."""

  workdir: pathlib.Path
  config: ConfigDict
  step: int  # of the checkpoint that is sampled: a run may save another meanwhile

  @classmethod
  def of_videos(
    cls, workdir: pathlib.Path, *, masked: bool, frames: int | None, **sampling
  ) -> 'Model':
    """One that makes so many frames of a prompt and, if `masked`, of part of a video.

    ValueError where it is not.  What is None is left as it was in training.
    """
    config = checkpoint.load_config(workdir)
    kind = STAGES.get(config.stage)
    if kind is super_resolution:
      raise UserError(f'{workdir} makes videos large; allowed is a model that makes them of texts.')
    if masked and kind is not masked_text_to_video:
      raise UserError(
        f'{workdir} is not a model that is given part of a video; configs/t2v_masked.py trains one.'
      )
    config.data.frames = frames or config.data.frames
    return cls(workdir, _sampled(config, sampling), checkpoint.latest_step(workdir))

  @classmethod
  def of_super_resolution(cls, workdir: pathlib.Path, small: ConfigDict, **sampling) -> 'Model':
    """One that makes videos of this `config.data` large; ValueError where it is not."""
    config = set_low_res_shape(super_resolution_config(workdir), small)
    return cls(workdir, _sampled(config, sampling), checkpoint.latest_step(workdir))

  def made_by(self, prefix: str, seed: int) -> dict:
    """What is said of it in a video's metadata, in keys of this prefix."""
    facts = {'model': f'{self.workdir.resolve().name} step {self.step}'}
    facts |= {'weights': checkpoint.fingerprint(self.workdir, self.step), 'seed': seed}
    return {prefix + k: v for k, v in (facts | self.config.sampling.to_dict()).items()}


def _sampled(config: ConfigDict, sampling: dict) -> ConfigDict:
  """The config with what of this is not None."""
  config.sampling.update({k: v for k, v in sampling.items() if v is not None})
  return config


def run(
  jobs: Sequence[Job],
  base: Model,
  ssr: Model | None,
  *,
  batch: int,
  seed: int,
  condition: Condition = Condition(),  # noqa: B008
  initial_video: InitialVideo | None = None,
  styled: Callable[[Params], Params] = lambda params: params,
) -> Iterator[tuple[Job, UInt8[np.ndarray, 't h w 3']]]:
  """Each job with its video, as they are made: by `base`, and made large by `ssr`.

  batch: small videos made at once; fewer jobs cost as much.
  condition: all but the text, of the large video.
  initial_video: that of the small video.
  styled: what is done to the parameters of `base`.

  Compiles everything before it makes anything.
  """
  # XLA keeps no program that calls the host in its cache, so without a terminal none does.
  shown = sys.stderr.isatty()
  on_step = (lambda i: bar.update(i + 1 - bar.n)) if shown else None
  with tqdm(desc='compiling', unit='step', disable=not shown) as bar:
    begin = time.perf_counter()
    make, enlarge = _compiled(base, ssr, on_step, batch, seed, condition, initial_video, styled)
    compiled = time.perf_counter()
    for done in range(0, len(jobs), batch):
      some = jobs[done : done + batch]
      bar.reset(base.config.sampling.steps)
      bar.set_description(f'video {done + 1} of {len(jobs)}')
      videos = make([job.prompt for job in some], [job.number for job in some])
      for i, (job, frames) in enumerate(zip(some, videos), done + 1):
        if ssr:
          bar.reset(ssr.config.sampling.steps)
          bar.set_description(f'super-resolution, video {i} of {len(jobs)}')
          frames = enlarge(job.prompt, job.number, frames)
        yield job, to_host(frames)
    end = time.perf_counter()
  print(f'compiled in {compiled - begin:.1f} s, made in {end - compiled:.1f} s')


def _compiled(
  base: Model,
  ssr: Model | None,
  on_step: OnStep | None,
  batch: int,
  seed: int,
  condition: Condition,
  initial_video: InitialVideo | None,
  styled: Callable[[Params], Params],
):
  """The functions of `compile_text_to_video` and of `compile_super_resolution`, or None."""
  d, enlarge = base.config.data, None
  params = _loaded(base)
  params = cast_kernels(styled(params), base.config.model.dtype)  # errors come before compiling
  if ssr:
    shape, w = (d.frames, d.size, d.size, 3), ssr.config.sampling
    mesh = window_mesh(d.frames, w.window, w.overlap, jax.devices())
    generate, encode = (
      open_stage(ssr.config, on_step, mesh).generate,
      open_encoder(**ssr.config.text),
    )
    large = cast_kernels(_loaded(ssr), ssr.config.model.dtype)
    enlarge = compile_super_resolution(
      generate, large, encode, shape, seed=seed, mesh=mesh, condition=condition
    )
    if condition.mask is not None:
      condition = condition.downsample_mask(ssr.config.degrade.factor)
  generate, encode = open_stage(base.config, on_step).generate, open_encoder(**base.config.text)
  options = dict(batch=batch, seed=seed, condition=condition, initial_video=initial_video)
  return compile_text_to_video(generate, params, encode, **options), enlarge


def _loaded(model: Model) -> Params:
  """The parameters of a model; how far its run has come is said where that is not at its end."""
  config, params, step = checkpoint.load(model.workdir, step=model.step)
  if 0 < step < config.get('steps', 0):
    tqdm.write(f'{model.workdir}: {checkpoint.progress(config, step)}', sys.stderr)
  return params
