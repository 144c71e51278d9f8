"""Checkpoints to sample: their checks and their metadata, for which no parameter is read."""

import dataclasses
import math
import pathlib
import sys
from collections.abc import Callable

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from core.errors import UserError
from core.frame_size import Size, height_width, require_multiples
from core.typing import Params
from pipelines.checks import require_options
from pipelines.stages import (
  STAGES,
  masked_text_to_video,
  set_low_res_shape,
  super_resolution,
  super_resolution_config,
)
from stunet.unet import STUNet
from training import checkpoint
from training.stage import model_stage


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """A checkpoint of a run, and the run's config with the changes that sampling makes to it."""

  workdir: pathlib.Path
  config: ConfigDict
  step: int  # fixed when the checkpoint is found: a run may save a later one meanwhile

  def made_by(self, seed: int, ssr: 'Checkpoint | None' = None) -> dict:
    """What the metadata of a video says of this checkpoint, and under keys that begin with `ssr_`
    of the one that upscaled the video."""
    facts = {'model': f'{self.workdir.resolve().name} step {self.step}'}
    facts |= {'weights': checkpoint.fingerprint(self.workdir, self.step), 'seed': seed}
    facts |= self.config.sampling.to_dict()
    return facts | {f'ssr_{k}': v for k, v in (ssr.made_by(seed) if ssr else {}).items()}

  def load(self, place: Callable[[Params], Params] | None = None) -> Params:
    """The parameters.  A note on stderr says if the run is not at its end.

    place: maps their shapes to their shardings, of which each process reads its own.  By default,
      all parameters are on the first device of this process.
    """
    config, params, step = checkpoint.load(self.workdir, place, step=self.step)
    if 0 < step < config.get('steps', 0) and jax.process_index() == 0:
      tqdm.write(f'{self.workdir}: {checkpoint.progress(config, step)}', sys.stderr)
    return params


def find_base(
  workdir: str | pathlib.Path, *, masked: bool = False, frames: int | None = None, **sampling
) -> Checkpoint:
  """The latest checkpoint of a model that makes videos of texts; ValueError if it is another model.

  All processes call this together, and get the same checkpoint.

  masked: whether the model has to be conditioned on masked videos.
  frames, sampling: changes to the config; None leaves what the run has.
  """
  workdir = pathlib.Path(workdir)
  config = checkpoint.load_config(workdir)
  kind = STAGES.get(model_stage(config))
  if kind is super_resolution:
    raise UserError(f'{workdir} upscales videos; allowed is a model that makes them of texts.')
  if masked and kind is not masked_text_to_video:
    raise UserError(
      f'{workdir} is not conditioned on masked videos; a model of configs/t2v_masked.py is.'
    )
  config.data.frames = config.data.frames if frames is None else frames
  return _found(workdir, config, sampling)


def find_super_resolution(
  workdir: str | pathlib.Path, low_res: ConfigDict, **sampling
) -> Checkpoint:
  """The latest checkpoint of a model that upscales videos of this `config.data`; ValueError if it
  is another model."""
  workdir = pathlib.Path(workdir)
  return _found(workdir, set_low_res_shape(super_resolution_config(workdir), low_res), sampling)


def set_size(base: Checkpoint, ssr: Checkpoint | None, size: Size) -> None:
  """Changes the configs of the checkpoints, so that they make videos of this size, whatever that of
  their training was.

  size: of the videos that are returned, which super-resolution has made if there is `ssr`.

  Both sides must be multiples of what the networks halve and what super-resolution enlarges: other
  sizes are a UserError with the nearest that are allowed.  Convolutions and attention apply to any
  size, and places in a frame are relative to it (`stunet.temporal.cosines`).
  """
  scale = ssr.config.degrade.factor if ssr else 1
  factors = [scale * STUNet(**base.config.model).spatial_factor]
  factors += [STUNet(**ssr.config.model).spatial_factor] if ssr else []
  require_multiples(size, math.lcm(*factors))
  height, width = height_width(size)
  base.config.data.size = height // scale, width // scale
  if ssr:
    set_low_res_shape(ssr.config, base.config.data)


def _found(workdir: pathlib.Path, config: ConfigDict, sampling: dict) -> Checkpoint:
  changes = {k: v for k, v in sampling.items() if v is not None}
  require_options(config, changes)
  config.sampling.update(changes)
  return Checkpoint(workdir, config, checkpoint.latest_step(workdir, shared=True))
