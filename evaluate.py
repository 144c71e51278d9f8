r"""Scores a trained model.

python evaluate.py shapes --workdir=checkpoints/demo/t2v --output=shapes.json
"""

import json
import pathlib

import jax
from absl import flags
from tqdm import tqdm

from core import command
from data.synthetic import prompt
from evaluation.shapes import judge
from pipelines.cascade import to_host
from pipelines.stage import open_stage
from pipelines.text_to_video import in_batches
from text.hashed import encoder
from training import checkpoint

_WORKDIR = flags.DEFINE_string('workdir', 'checkpoints/demo/t2v', 'Where the model was trained.')
_OUTPUT = flags.DEFINE_string('output', None, 'A .json file for the score and its protocol.')
_PROMPTS = flags.DEFINE_integer('prompts', 40, 'How many, by seeds from 0 on.', lower_bound=1)
_BATCH = flags.DEFINE_integer('batch', 1, 'Videos made at once.', lower_bound=1)
_STEPS = flags.DEFINE_integer('steps', None, "The model's by default.", lower_bound=1)
_GUIDANCE = flags.DEFINE_float('guidance', None, "The model's by default.", lower_bound=0.0)

# The facts of a scene that a judge can tell from pixels.
FACTS = ('colour', 'shape', 'motion', 'background')


def shapes() -> None:
  """The share of moving shapes which are what their prompts say, judged by their pixels alone."""
  if _OUTPUT.value:
    _check_output(pathlib.Path(_OUTPUT.value))
  config, params, step = checkpoint.load(pathlib.Path(_WORKDIR.value))
  given = {'steps': _STEPS.value, 'guidance': _GUIDANCE.value}
  config.sampling.update({k: v for k, v in given.items() if v is not None})
  generate = open_stage(config).generate
  make = in_batches(generate, params, encoder(**config.text), batch=_BATCH.value, seed=0)

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
  if _OUTPUT.value:
    protocol = {'model': f'{_WORKDIR.value} step {step}', 'seeds': len(seeds), **config.sampling}
    protocol |= {'frames': config.data.frames, 'size': config.data.size, 'jax': jax.__version__}
    text = json.dumps({'score': score, 'protocol': protocol, 'videos': rows}, indent=2)
    pathlib.Path(_OUTPUT.value).write_text(text + '\n')


def _check_output(path: pathlib.Path) -> None:
  if path.suffix != '.json':
    raise ValueError(f'--output={path} is not allowed: it is a .json file.')
  if not path.parent.is_dir():
    raise ValueError(f'--output={path}: there is no folder {path.parent}.')


VERBS = {'shapes': shapes}

if __name__ == '__main__':
  command.run_verb(VERBS)
