"""Scores each application on held-out clips of moving shapes."""

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from tqdm import tqdm

from core.errors import UserError
from core.files import digest
from core.typing import Params
from data import pictures, synthetic
from data.pipeline import SHAPES
from evaluation.shapes.applications import (
  Task,
  cinemagraph,
  edit,
  image_to_video,
  inpainting,
  stylize,
)
from pipelines import Pipeline, style
from pipelines.checkpoints import find_base

SEED = 0
ALPHA = 1.0  # the weight of a style: all of it


@dataclasses.dataclass(frozen=True)
class Application:
  """An application, its task for each clip, and its model."""

  name: str
  workdir: pathlib.Path
  task: Callable[[dict], Task]  # of a clip of moving shapes
  # The entries of the protocol that only this application has.
  protocol: Mapping[str, object] = dataclasses.field(default_factory=dict)
  stylize_params: Callable[[Params], Params] = lambda params: params


def applications(
  workdir: pathlib.Path,
  masked_workdir: pathlib.Path,
  styles: pathlib.Path,
  *,
  clips: int,
  strength: float,
  sampling: Mapping[str, float],
) -> dict:
  """The scores of all applications, as `protocol.write_score` takes them.

  All processes call this together, and the first one prints each score.

  workdir, masked_workdir: the text-to-video model, and the model that completes masked videos.
  styles: a folder of styles, each with its picture beside it.
  clips: the number of clips for each application.
  strength: the strength of edits.
  sampling: the options of sampling that replace those of the configs.

  The models are not in the protocol, so that two steps of a training are comparable.  UserError,
  before anything is generated, where a folder or a style is missing or does not fit.
  """
  all_applications = list(_applications(workdir, masked_workdir, styles, strength))
  opened = functools.cache(functools.partial(_open_model, sampling=sampling))
  models = ', '.join(f'{model} step {opened(model)[2]}' for model in (workdir, masked_workdir))
  for application in all_applications:  # a style of another image model is an error now
    application.stylize_params(opened(application.workdir)[1])
  rows, score, protocol = [], {}, {}
  is_first = jax.process_index() == 0
  for application in all_applications:
    pipeline, params, _ = opened(application.workdir)
    pipeline = pipeline.with_params(application.stylize_params(params))
    d = pipeline.base.config.data
    clip = functools.partial(
      synthetic.clip, size=d.size, frames=d.frames, fps=d.fps, seed=SHAPES['test']
    )
    results = []
    for i in tqdm(range(clips), desc=application.name, unit='clip', disable=not is_first):
      task = application.task(clip(i))
      inputs = dict(condition=task.condition, initial_video=task.initial_video)
      [pixels] = pipeline.generate([task.prompt], seed=SEED, numbers=[i], **inputs)
      results.append(task.score(pixels))
      row = {'application': application.name, 'clip': i, 'prompt': task.prompt}
      rows.append(row | results[-1])
    keys = dict.fromkeys(itertools.chain(*results))  # a measure may apply to some clips alone
    means = {key: float(np.mean([r[key] for r in results if key in r])) for key in keys}
    score[application.name] = means
    clip_format = {'frames': d.frames, 'size': d.size, 'fps': d.fps, 'clips': clips}
    options = pipeline.base.config.sampling.to_dict() | {'seed': SEED, 'jax': jax.__version__}
    protocol[application.name] = clip_format | options | application.protocol
    shown = {key: f'{x:.2f}' if 'step' in key else f'{x:.1%}' for key, x in means.items()}
    if is_first:
      print(f'{application.name}: ' + ', '.join(f'{key} {x}' for key, x in shown.items()))
  result = {'metric': 'applications', 'of': models, 'score': score, 'protocol': protocol}
  return result | {'clips': rows}


def _applications(workdir, masked_workdir, styles, strength) -> Iterator[Application]:
  if not styles.is_dir():
    raise UserError(f'--styles={styles}: there is no such folder.')
  for task in (image_to_video, inpainting, cinemagraph):
    yield Application(task.__name__, masked_workdir, task)
  task = functools.partial(edit, strength=strength)
  yield Application('edit', workdir, task, {'strength': strength})
  files = {file.stem: file for file in sorted(styles.glob('*.npz'))}
  images = {name: file.with_suffix('.png') for name, file in files.items()}
  references = {name: pictures.read_image(file, warn=print)[0] for name, file in images.items()}
  # The look of a video is the nearest of all, so that it depends on all pictures.
  looks = {name: digest([file]) for name, file in images.items()}
  for name, file in files.items():
    loaded = style.load(file)
    descriptor = loaded.descriptor
    task = functools.partial(stylize, name=name, descriptor=descriptor, references=references)
    protocol = {'alpha': ALPHA, 'style': digest([file]), 'looks': looks}
    blend = functools.partial(style.blended, style=loaded, alpha=ALPHA)
    yield Application(f'style {name}', workdir, task, protocol, blend)


def _open_model(workdir: pathlib.Path, sampling: Mapping[str, float]):
  """The pipeline of a model without its parameters, the parameters, and their step."""
  base = find_base(workdir, **sampling)
  pipeline = Pipeline.open(base, None, batch=1)
  return pipeline, base.load(pipeline.base.param_shardings), base.step
