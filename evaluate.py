r"""Scores a trained model.

python evaluate.py shapes --workdir=checkpoints/demo/t2v --output=shapes.json
python evaluate.py applications --masked_workdir=checkpoints/demo/t2v_masked
"""

import functools
import json
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from core import command
from core.condition import Condition
from data import synthetic
from data.pipeline import SHAPES
from data.synthetic import prompt
from evaluation.applications import cinemagraph, edit, image_to_video, inpainting, stylize
from evaluation.shapes import judge
from pipelines import style
from pipelines.cascade import to_host
from pipelines.sampling import video_keys
from pipelines.stage import open_stage
from pipelines.text_to_video import in_batches
from text.encoder import open_encoder
from training import checkpoint

_WORKDIR = flags.DEFINE_string('workdir', 'checkpoints/demo/t2v', 'Where the model was trained.')
_MASKED_WORKDIR = flags.DEFINE_string(
  'masked_workdir', 'checkpoints/demo/t2v_masked', 'The model that is given part of a video.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'A .json file for the score and its protocol.')
_PROMPTS = flags.DEFINE_integer('prompts', 40, 'How many, by seeds from 0 on.', lower_bound=1)
_STYLES = flags.DEFINE_string(
  'styles', 'checkpoints/demo/styles', 'A folder of styles, each with its picture beside it.'
)
_CLIPS = flags.DEFINE_integer('clips', 50, 'How many are held out.', lower_bound=1)
_STRENGTH = flags.DEFINE_float('strength', 0.6, 'Of edits.', 0.0, upper_bound=1.0)
_BATCH = flags.DEFINE_integer('batch', 1, 'Videos made at once.', lower_bound=1)
_STEPS = flags.DEFINE_integer('steps', None, "The model's by default.", lower_bound=1)
_GUIDANCE = flags.DEFINE_float('guidance', None, "The model's by default.", lower_bound=0.0)

# The facts of a scene that a judge can tell from pixels.
FACTS = ('colour', 'shape', 'motion', 'background')


def shapes() -> None:
  """The share of moving shapes which are what their prompts say, judged by their pixels alone."""
  command.json_file(_OUTPUT.value)
  config, params, step, generate = _opened(_WORKDIR.value)
  make = in_batches(generate, params, open_encoder(**config.text), batch=_BATCH.value, seed=0)

  rows = []
  seeds = range(_PROMPTS.value)
  for i in tqdm(range(0, len(seeds), _BATCH.value), unit='batch'):
    some = seeds[i : i + _BATCH.value]
    videos = make([prompt(seed).caption for seed in some], list(some))
    for seed, pixels in zip(some, map(to_host, videos)):
      asked, seen = prompt(seed), judge(pixels)
      row = {fact: [getattr(asked, fact), getattr(seen, fact)] for fact in FACTS}
      rows.append({'seed': seed, 'caption': asked.caption, **row})

  score = {fact: sum(row[fact][0] == row[fact][1] for row in rows) / len(rows) for fact in FACTS}
  for row in rows:
    wrong = [f'{fact} {row[fact][1]}' for fact in FACTS if row[fact][0] != row[fact][1]]
    print(f'{row["seed"]:3}  {row["caption"]:60}  {"; ".join(wrong) or "as asked"}')
  print(', '.join(f'{fact} {share:.1%}' for fact, share in score.items()))
  _report(score, _protocol(_WORKDIR.value, step, config, seeds=len(seeds)), videos=rows)


def applications() -> None:
  """The share of held-out clips with which each application does what it is for."""
  command.json_file(_OUTPUT.value)
  if not pathlib.Path(_STYLES.value).is_dir():
    raise ValueError(f'--styles={_STYLES.value}: there is no such folder.')
  rows, score, protocol = [], {}, {}
  for name, workdir, task_of, styled in _applications():
    config, params, step, generate = _opened(workdir)
    encode, d, params = open_encoder(**config.text), config.data, styled(params)
    clip = functools.partial(
      synthetic.clip, size=d.size, frames=d.frames, fps=d.fps, seed=SHAPES['test']
    )
    found = []
    for i in tqdm(range(_CLIPS.value), desc=name, unit='clip'):
      task = task_of(clip(i))
      cond = Condition(*map(jnp.asarray, encode([task.prompt])))
      keys = video_keys(0, jnp.array([i]))
      pixels = to_host(generate(params, cond, keys, task.given, task.source)[0])
      found.append(task.score(pixels))
      rows.append({'application': name, 'clip': i, 'prompt': task.prompt, **found[-1]})
    score[name] = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    protocol[name] = _protocol(workdir, step, config, clips=_CLIPS.value)
    print(f'{name}: ' + ', '.join(f'{key} {share:.1%}' for key, share in score[name].items()))
  _report(score, protocol, clips=rows)


def _applications():
  """Of each its name, its model, what it makes of a clip, and what it makes of the parameters."""
  same = lambda params: params
  for task_of in (image_to_video, inpainting, cinemagraph):
    yield task_of.__name__, _MASKED_WORKDIR.value, task_of, same
  yield 'edit', _WORKDIR.value, functools.partial(edit, strength=_STRENGTH.value), same
  files = {file.stem: file for file in sorted(pathlib.Path(_STYLES.value).glob('*.npz'))}
  pictures = {
    name: np.asarray(Image.open(file.with_suffix('.png'))) for name, file in files.items()
  }
  for name, file in files.items():
    of = style.load(file)
    task_of = functools.partial(stylize, name=name, descriptor=of.descriptor, references=pictures)
    yield (
      f'style {name}',
      _WORKDIR.value,
      task_of,
      functools.partial(style.blended, style=of, alpha=1.0),
    )


@functools.cache
def _opened(workdir: str):
  """The config, as the flags change it, parameters and step of a model, and how it makes videos."""
  config, params, step = checkpoint.load(pathlib.Path(workdir))
  given = {'steps': _STEPS.value, 'guidance': _GUIDANCE.value}
  config.sampling.update({k: v for k, v in given.items() if v is not None})
  return config, params, step, open_stage(config).generate


def _protocol(workdir: str, step: int, config, **drawn) -> dict:
  """All that has to be the same for a score to be."""
  d = config.data
  model = {'model': f'{workdir} step {step}', 'frames': d.frames, 'size': d.size}
  return model | drawn | config.sampling.to_dict() | {'jax': jax.__version__}


def _report(score: dict, protocol: dict, **rows: Sequence[dict]) -> None:
  if path := command.json_file(_OUTPUT.value):
    text = json.dumps({'score': score, 'protocol': protocol, **rows}, indent=2)
    path.write_text(text + '\n')


VERBS = {'shapes': shapes, 'applications': applications}

if __name__ == '__main__':
  command.run_verb(VERBS)
