r"""Repeats the paper's ablation on the initialisation of temporal resampling (Lumiere, App. B).

  python -m benchmarks.initialisation --config=configs/t2v.py:tiny --config.init_from=runs/t2i \
    --output=initialisation.png

An image model is inflated twice: with temporal resampling that copies frames, which is the default
of this project, and with kernels initialised as by He et al. (2015).  Both are trained as train.py
does, on the same data with the same noise.  The picture shows the evaluation loss at each step
(Fig. 12) and samples before training (Fig. 13); a JSON file beside it has the numbers.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import UInt8
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from benchmarks import chart
from core import command, writable
from core.condition import Condition
from core.errors import UserError
from core.folder import new_file
from core.params import merge, names, nest, partition
from core.typing import Key, Params
from data.pipeline import batches
from pipelines import Pipeline
from pipelines.model import Model
from stunet.inflate import inflate
from text.encoder import open_encoder
from training import checkpoint
from training.optimizer import make_optimizer
from training.plan import open_step
from training.stage import Stage
from training.state import State
from training.validation import (
  example_counts,
  fixed_batches,
  make_evaluation,
  mean_loss,
  open_validation,
)

RESAMPLING = (r'(.*/)?temporal_(down|up)[^/]*/conv1d/conv/kernel',)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The result of one initialisation."""

  samples: UInt8[np.ndarray, 'b t h w 3']  # before the first step, one for each prompt
  losses: list[tuple[int, float]]  # (step, evaluation loss)
  metric: str  # the name of the loss: see `open_validation`


def compare(config: ConfigDict) -> dict[str, Outcome]:
  """The outcome of each initialisation, by name; `config` is that of a video model."""
  if not config.init_from:
    raise UserError(
      'Got no image model to inflate; allowed is the workdir of one, as --config.init_from=WORKDIR.'
    )
  prompts = config.sample_prompts
  model = Model.open(config, batch=len(prompts))
  stage = model.stage
  encode, source = open_encoder(**config.text), stage.data.open('train')
  validation = open_validation(config, stage, source)
  fixed = fixed_batches(validation.examples, encode, stage, config.evaluate_batch)
  counts = example_counts(validation.examples, config.evaluate_batch)
  key_init, key_he, key_step, key_evaluate = jax.random.split(jax.random.key(config.seed), 4)
  params = inflated(config, stage, fixed[0], key_init)
  variants = {'nearest neighbour': params, 'He et al.': with_he(params, key_he)}

  evaluate = jax.jit(make_evaluation(stage.apply, stage.process, times=config.evaluate_times))
  tx = make_optimizer(config.steps, **config.optim)
  step = jax.jit(open_step(config, stage, tx))

  def loss(params: Params) -> float:
    batch_loss = lambda number, batch: evaluate(params, batch, key_evaluate, number)
    return mean_loss(batch_loss, fixed, counts)

  def sample(params: Params) -> UInt8[np.ndarray, 'b t h w 3']:
    pipeline = Pipeline(model.with_params(params))
    return np.stack([*pipeline.generate(prompts, seed=config.seed)])

  def losses(name: str, params: Params) -> list[tuple[int, float]]:
    trained, frozen = partition(params, config.trainable)
    state, curve = State.create(trained, tx), []
    stream = batches(source, encode, keys=stage.batch, seed=config.seed, **config.loader)
    with contextlib.closing(stream) as data:
      for i in tqdm(range(config.steps + 1), desc=name, unit='step'):
        if i in (0, config.steps) or (config.evaluate_every and i % config.evaluate_every == 0):
          curve.append((i, loss(merge(state.params, frozen))))
        if i < config.steps:
          state, _ = step(state, frozen, next(data), key_step)
    return curve

  return {n: Outcome(sample(p), losses(n, p), validation.metric) for n, p in variants.items()}


def inflated(config: ConfigDict, stage: Stage, batch: dict[str, np.ndarray], key: Key) -> Params:
  """The parameters of the image model in `config.init_from`, inflated to the stage's model."""
  x, cond = (
    jnp.zeros(batch['video'][:1].shape),
    Condition(batch['text'][:1], batch['text_mask'][:1]),
  )
  _, image, _ = checkpoint.load(pathlib.Path(config.init_from))
  return inflate(image, jax.jit(stage.init)(key, x, jnp.ones(1), cond))


def with_he(params: Params, key: Key) -> Params:
  """`params` with new random kernels of temporal resampling (He et al., 2015, Eq. 10)."""
  kernels, rest = partition(params, RESAMPLING)
  draw, named = jax.nn.initializers.he_normal(), names(kernels)
  keys = jax.random.split(key, len(named))
  drawn = {n: draw(k, named[n].shape, named[n].dtype) for n, k in zip(sorted(named), keys)}
  return merge(nest(drawn), rest)


def circumstances() -> dict[str, str]:
  """The command, the versions and the machine, which are needed to reproduce the numbers."""
  packages = ('flax', 'jax', 'jaxlib', 'numpy', 'optax')
  return {
    'command': shlex.join(['python', '-m', 'benchmarks.initialisation', *sys.argv[1:]]),
    'versions': ', '.join(
      [f'python {platform.python_version()}', *(f'{p} {metadata.version(p)}' for p in packages)]
    ),
    'machine': f'{platform.platform()}, {os.cpu_count()} cores, '
    f'{jax.device_count()} x {jax.devices()[0].device_kind}',
  }


def picture(outcomes: dict[str, Outcome], prompts: Sequence[str]):
  """The loss curves, and below them the samples of each prompt."""
  curves = {name: outcome.losses for name, outcome in outcomes.items()}
  strips = [
    chart.filmstrip(f'{name}, before training: {prompt}', outcome.samples[i])
    for i, prompt in enumerate(prompts)
    for name, outcome in outcomes.items()
  ]
  (metric,) = {outcome.metric for outcome in outcomes.values()}
  plot = chart.line_chart(curves, x_label='training step', y_label=metric.replace('_', ' '))
  return chart.stacked([plot, *strips])


def main() -> None:
  config, output = flags.FLAGS.config, chart.require_png(flags.FLAGS.output)
  writable.require_file(output.with_suffix('.json'))
  facts = circumstances()
  print(*(f'{name}: {value}' for name, value in facts.items()), sep='\n')
  outcomes = compare(config)
  chart.save(picture(outcomes, config.sample_prompts), output)
  numbers = {name: outcome.losses for name, outcome in outcomes.items()}
  (metric,) = {outcome.metric for outcome in outcomes.values()}
  record = {**facts, metric: numbers, 'config': json.loads(config.to_json())}
  with new_file(output.with_suffix('.json')) as file:
    file.write_text(json.dumps(record, indent=2) + '\n')
  for name, losses in numbers.items():
    print(f'{name}: {metric} {losses[0][1]:.4f} at initialisation, {losses[-1][1]:.4f} at the end')
  print(output, output.with_suffix('.json'), sep='\n')


if __name__ == '__main__':
  config_flags.DEFINE_config_file('config', 'configs/t2v.py:tiny', lock_config=True)
  flags.DEFINE_string(
    'output',
    'initialisation.png',
    'Image file to write, .png; a .json file beside it gets the numbers.',
  )
  command.run(main)
