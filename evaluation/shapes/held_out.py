"""The share of held-out clips of moving shapes with which each application does what it is for."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from core.errors import UserError
from core.files import digest
from core.typing import Params
from data import pictures, synthetic
from data.pipeline import SHAPES
from diffusion.sampling import video_keys
from evaluation.shapes.applications import (
  Task,
  cinemagraph,
  edit,
  image_to_video,
  inpainting,
  stylize,
)
from pipelines import style
from pipelines.cascade import to_host
from pipelines.stages import open_stage
from text.encoder import open_encoder
from training import checkpoint

SEED = 0  # of all noise
ALPHA = 1.0  # of styles: all the way


@dataclasses.dataclass(frozen=True)
class Application:
  """What is done to each clip, with which model."""

  name: str
  workdir: pathlib.Path
  task: Callable[[dict], Task]  # of a clip
  protocol: Mapping[str, object] = dataclasses.field(default_factory=dict)  # beyond that of all
  styled: Callable[[Params], Params] = lambda params: params


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

  Models are told of beside the protocol: those of two steps of a training compare.  ValueError,
  before anything is made, where a folder is not there, or not what it should be.
  """
  listed = list(_applications(workdir, masked_workdir, styles, strength))
  opened = functools.cache(functools.partial(_opened, sampling=sampling))
  models = ', '.join(f'{model} step {opened(model)[2]}' for model in (workdir, masked_workdir))
  for of in listed:
    of.styled(opened(of.workdir)[1])  # a style of another image model is told of now
  rows, score, protocol = [], {}, {}
  for of in listed:
    config, params, _, generate = opened(of.workdir)
    encode, d, params = open_encoder(**config.text), config.data, of.styled(params)
    clip = functools.partial(
      synthetic.clip, size=d.size, frames=d.frames, fps=d.fps, seed=SHAPES['test']
    )
    found = []
    for i in tqdm(range(clips), desc=of.name, unit='clip'):
      task = of.task(clip(i))
      text, mask = map(jnp.asarray, encode([task.prompt]))
      cond = task.condition.replace(text=text, text_mask=mask)
      keys = video_keys(SEED, jnp.array([i]))
      pixels = to_host(generate(params, cond, keys, task.initial_video)[0])
      found.append(task.score(pixels))
      rows.append({'application': of.name, 'clip': i, 'prompt': task.prompt, **found[-1]})
    shares = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    drawn = {'frames': d.frames, 'size': d.size, 'fps': d.fps, 'clips': clips}
    made = config.sampling.to_dict() | {'seed': SEED, 'jax': jax.__version__}
    score[of.name], protocol[of.name] = shares, drawn | made | of.protocol
    print(f'{of.name}: ' + ', '.join(f'{key} {share:.1%}' for key, share in shares.items()))
  found = {'metric': 'applications', 'of': models, 'score': score, 'protocol': protocol}
  return found | {'clips': rows}


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
  # A look is the nearest of all: it depends on the pictures of the other styles too.
  looks = {name: digest([file]) for name, file in images.items()}
  for name, file in files.items():
    of = style.load(file)
    task = functools.partial(stylize, name=name, descriptor=of.descriptor, references=references)
    protocol = {'alpha': ALPHA, 'style': digest([file]), 'looks': looks}
    styled = functools.partial(style.blended, style=of, alpha=ALPHA)
    yield Application(f'style {name}', workdir, task, protocol, styled)


def _opened(workdir: pathlib.Path, sampling: Mapping[str, float]):
  """The config, parameters and step of a model, and how it makes videos."""
  config, params, step = checkpoint.load(workdir)
  config.sampling.update(sampling)
  return config, params, step, open_stage(config).generate
