"""Scores of a model while it is trained, of the averaged parameters."""

import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from core import video
from core.condition import Condition
from core.errors import UserError
from core.typing import Params
from data import prompts as lists
from data.decode import available
from diffusion.sampling import video_keys
from evaluation import samples
from evaluation.protocol import flatten, write_score
from evaluation.scores import METRICS, Settings, open_network, require
from pipelines.jobs import Job, write_index
from text.encoder import open_encoder
from training.sampling import GenerateOnHost
from training.stage import Stage

Scoring = Callable[[Params, int], dict[str, float]]


def make_scoring(
  config: ConfigDict,
  stage: Stage,
  generate: GenerateOnHost,
  workdir: pathlib.Path,
  *,
  at_once: int,
  metrics: Sequence[str],
  videos: int,
  prompts: str,
  **settings,
) -> Scoring:
  """Returns `score(params, step)`: what the metrics say of videos by these parameters.

  generate: see `training.sampling.make_generate_on_host`; it generates `at_once` videos.
  metrics: names of `scores.METRICS`; none is no videos either.
  videos: how many, of the list `prompts`, or of `config.sample_prompts`, over and over.
  settings: `scores.Settings`.

  Videos, and each score with its protocol, are in `WORKDIR/evaluation/step_N`.  It is to be called
  in all processes; the first one writes and scores, the others say nothing.  ValueError where
  metrics are unknown or lack what they need, and for stages whose videos are not of texts alone.
  """
  if not metrics:
    return lambda params, step: {}
  told = Settings(**settings)
  _require(config, stage, metrics, videos, told)
  if jax.process_index() == 0:
    for metric in metrics:  # now, and not after hours of training
      open_network(metric, told)
  texts = lists.read(pathlib.Path(prompts)) if prompts else list(config.sample_prompts)
  texts = [texts[i % len(texts)] for i in range(videos)]

  def score(params: Params, step: int) -> dict[str, float]:
    folder = workdir / 'evaluation' / f'step_{step:08}'
    jobs = samples.plan(texts, folder / 'videos', '.mp4' if config.data.frames > 1 else '.png')
    name = f'{workdir.resolve().name} step {step}'
    _sample(config, generate, params, jobs, name, at_once)
    if jax.process_index() > 0:
      return {}
    found = {}
    for metric in metrics:
      of = METRICS[metric](samples.sampled(jobs), told)
      write_score(folder / f'{metric}.json', **of | {'of': f'step {step}'})
      found |= {f'{metric}/{name}': value for name, value in flatten(of['score']).items()}
    return found

  return score


def _require(config, stage, metrics: Sequence[str], videos: int, told: Settings) -> None:
  for metric in metrics:
    require(metric, told)
  if set(stage.condition) - {'text', 'text_mask'} or videos < 1:
    raise UserError(
      f'Got scores of {videos} videos in the stage {config.stage!r}; allowed are 1 or more in a '
      'stage that makes videos of texts.'
    )
  frames, fps = config.data.frames, config.data.fps
  there = available(frames / fps, told.fps) if told.fps else frames
  for metric in metrics:
    if (span := told.reading(metric).span) > there:
      raise UserError(f'{metric} takes clips of {span} frames; videos here have {there}.')
  of_each = there // told.reading('inception_score').span if told.windows == 'all' else 1
  if 'inception_score' in metrics and told.splits > (clips := videos * of_each):
    raise UserError(f'Got {told.splits} splits of {clips} clips; allowed are 1 to that many.')


def _sample(
  config, generate: GenerateOnHost, params, jobs: Sequence[Job], name: str, at_once: int
) -> None:
  """Makes the videos, and their index."""
  d, encode = config.data, open_encoder(**config.text)
  made_by = {'model': name, 'seed': config.seed, 'fps': d.fps}
  made_by |= config.sampling.to_dict() | {'batch': at_once}
  for at in range(0, len(jobs), at_once):
    some = jobs[at : at + at_once]
    cond = Condition(*map(jnp.asarray, encode([job.prompt for job in some])))
    keys = video_keys(config.seed, jnp.array([job.number for job in some]))
    made = generate(params, cond, keys)
    if jax.process_index() == 0:
      for job, frames in zip(some, map(video.to_uint8, made)):
        job.path.parent.mkdir(parents=True, exist_ok=True)
        job.write(frames, fps=d.fps, upscale=1, made_by=made_by)
  if jax.process_index() == 0:
    write_index(jobs, made_by)
