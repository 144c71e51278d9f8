"""The share of held-out clips of moving shapes with which each application does what it is for."""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from tqdm import tqdm

from core.condition import Condition
from core.typing import Params
from data import synthetic
from data.pipeline import SHAPES
from evaluation.applications import Task, cinemagraph, edit, image_to_video, inpainting, stylize
from pipelines import style
from pipelines.cascade import to_host
from pipelines.sampling import video_keys
from pipelines.stage import open_stage
from text.encoder import open_encoder
from training import checkpoint

# Its name, its model, what it makes of a clip, and of the parameters.
Application = tuple[str, pathlib.Path, Callable[[dict], Task], Callable[[Params], Params]]


def applications(
  workdir: pathlib.Path,
  masked_workdir: pathlib.Path,
  styles: pathlib.Path,
  *,
  clips: int,
  strength: float,
  sampling: Mapping[str, float],
) -> dict:
  """The score of all applications, as `protocol.write_score` writes it; told of as it is found.

  workdir, masked_workdir: the model of texts, and the one that is given part of a video.
  styles: a folder of them, each with its picture beside it.
  strength: of edits.
  sampling: what differs from the models' configs.

  ValueError where a folder is not there, or not what it should be.
  """
  if not styles.is_dir():
    raise ValueError(f'--styles={styles}: there is no such folder.')
  opened = functools.cache(functools.partial(_opened, sampling=sampling))
  rows, score, protocol = [], {}, {}
  for name, model, task_of, styled in _applications(workdir, masked_workdir, styles, strength):
    config, params, step, generate = opened(model)
    encode, d, params = open_encoder(**config.text), config.data, styled(params)
    clip = functools.partial(
      synthetic.clip, size=d.size, frames=d.frames, fps=d.fps, seed=SHAPES['test']
    )
    found = []
    for i in tqdm(range(clips), desc=name, unit='clip'):
      task = task_of(clip(i))
      cond = Condition(*map(jnp.asarray, encode([task.prompt])))
      keys = video_keys(0, jnp.array([i]))
      pixels = to_host(generate(params, cond, keys, task.given, task.source)[0])
      found.append(task.score(pixels))
      rows.append({'application': name, 'clip': i, 'prompt': task.prompt, **found[-1]})
    score[name] = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    of = {'model': f'{model} step {step}', 'frames': d.frames, 'size': d.size, 'clips': clips}
    protocol[name] = of | config.sampling.to_dict() | {'jax': jax.__version__}
    print(f'{name}: ' + ', '.join(f'{key} {share:.1%}' for key, share in score[name].items()))
  models = f'{workdir}, {masked_workdir}'
  of = {'metric': 'applications', 'of': models, 'score': score, 'protocol': protocol}
  return of | {'clips': rows}


def _applications(workdir, masked_workdir, styles, strength) -> Iterator[Application]:
  same = lambda params: params
  for task_of in (image_to_video, inpainting, cinemagraph):
    yield task_of.__name__, masked_workdir, task_of, same
  yield 'edit', workdir, functools.partial(edit, strength=strength), same
  files = {file.stem: file for file in sorted(styles.glob('*.npz'))}
  pictures = {
    name: np.asarray(Image.open(file.with_suffix('.png'))) for name, file in files.items()
  }
  for name, file in files.items():
    of = style.load(file)
    task_of = functools.partial(stylize, name=name, descriptor=of.descriptor, references=pictures)
    styled = functools.partial(style.blended, style=of, alpha=1.0)
    yield f'style {name}', workdir, task_of, styled


def _opened(workdir: pathlib.Path, sampling: Mapping[str, float]):
  """The config, parameters and step of a model, and how it makes videos."""
  config, params, step = checkpoint.load(workdir)
  config.sampling.update(sampling)
  return config, params, step, open_stage(config).generate
