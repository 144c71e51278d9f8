"""The evaluation loss: the examples that it is computed on, and its program."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from core.sharding import filled, put_batch, replicated, rows
from core.typing import Float, Int, Key, Params
from data.fixed import Fixed
from data.parts import by_bucket
from data.pipeline import batches
from diffusion.loss import squared_error
from diffusion.process import Process
from text.encoder import Encoder
from training.stage import Stage
from training.step import (
  Apply,
  MakeCondition,
  Target,
  ToTimes,
  clean,
  condition_on_text,
  pixels,
)

HELD_OUT = 'evaluation_loss'  # the metric on clips that are not trained on
TRAINED_ON = 'evaluation_loss_on_training_data'  # the metric if there are no held-out clips


@dataclasses.dataclass(frozen=True)
class Validation:
  """What a model is evaluated on while it is trained."""

  examples: Fixed
  metric: str  # the name of their loss
  description: str


def open_validation(config: ConfigDict, stage: Stage, trained_on) -> Validation:
  """The examples whose loss compares models.

  They are `evaluate_clips` of the split 'validation' of a dataset, or all if it has fewer.  Of
  examples that are drawn without an end, such as moving shapes, they are `evaluate_batch`.  Data
  without that split are evaluated on what is trained on, and the name of the metric says so.

  trained_on: the source of the training examples.
  """
  data = stage.data
  count = config.evaluate_batch if data.endless else config.evaluate_clips
  if 'validation' in data.splits():
    examples = Fixed(data.open('validation'), count)
    description = f'{len(examples)} clips of the split validation of {data.name}'
    return Validation(examples, HELD_OUT, description)
  examples = Fixed(trained_on, count)
  description = (
    f'{len(examples)} clips of {data.name} that are trained on: it has no split validation'
  )
  return Validation(examples, TRAINED_ON, description)


def fixed_batches(
  examples: Fixed,
  encode: Encoder,
  stage: Stage,
  batch: int,
  rows: Sequence[int] | None = None,
) -> list[dict[str, np.ndarray]]:
  """The batches of all examples, or these `rows` of each: see `batches`.

  The last batch of each bucket is filled up with its first examples.
  """
  options = dict(keys=stage.batch, batch=batch, seed=0, shuffle=False, rows=rows)
  result = []
  for source in by_bucket(examples):
    with contextlib.closing(batches(source, encode, **options)) as data:
      result += itertools.islice(data, math.ceil(len(source) / batch))
  return result


def example_counts(examples: Fixed, batch: int) -> list[int]:
  """How many examples each of `fixed_batches` begins with that are in no batch before."""
  lengths = [len(source) for source in by_bucket(examples)]
  return [min(batch, n - first) for n in lengths for first in range(0, n, batch)]


def evaluation_rows(clips: int, mesh: jax.sharding.Mesh) -> list[int]:
  """The clips of an evaluation batch that this process loads.

  If they do not divide over the mesh, the batch is filled up with some of them again, so that every
  device has as many.  Repeated clips come last, and the loss leaves them out.
  """
  return [row % clips for row in rows(filled(clips, mesh), mesh)]


def make_evaluate(
  config: ConfigDict,
  stage: Stage,
  mesh: jax.sharding.Mesh,
  validation: Validation,
  fixed: Sequence[dict],
  key: Key,
) -> Callable[[Params], dict[str, float]]:
  """Returns `evaluate(params) -> {metric: mean loss of all examples}`, the same in all processes.

  fixed: the batches of the examples, of each the rows of this process.
  """
  losses = make_losses(config, stage, mesh)
  counts = example_counts(validation.examples, config.evaluate_batch)

  def evaluate(params: Params) -> dict[str, float]:
    of_batch = lambda number, batch: losses(params, put_batch(batch, mesh), key, number)
    return {validation.metric: mean_loss(of_batch, fixed, counts)}

  return evaluate


def make_losses(
  config: ConfigDict, stage: Stage, mesh: jax.sharding.Mesh
) -> Callable[[Params, dict, Key, Int['']], Float[' b']]:
  """Returns the jitted `evaluate(params, batch, key, number) -> losses` of a run.

  They are the losses of the `evaluate_batch` clips of a batch without those that fill it up, the
  same in all processes.
  """
  evaluate = make_evaluation(
    stage.apply,
    stage.process,
    times=config.evaluate_times,
    make_condition=stage.make_condition,
    to_times=stage.times or (lambda u: u),
    target=stage.target,
  )
  of_clips = lambda *inputs: evaluate(*inputs)[: config.evaluate_batch]
  return jax.jit(of_clips, out_shardings=replicated(mesh))


def make_evaluation(
  apply: Apply,
  process: Process,
  *,
  times: int,
  make_condition: MakeCondition = condition_on_text,
  to_times: ToTimes = lambda u: u,
  target: Target = clean,
):
  """Returns `evaluate(params, batch, key, number) -> losses`, one of each example, to be jitted.

  A loss is the mean over this many times, to which `to_times` maps evenly spaced numbers in [0, 1).
  Noise depends on the key, the number of the batch and the place of an example in it, not on how
  many examples follow, so that losses on fixed batches can be compared.
  """

  def evaluate(params: Params, batch, key: Key, number: Int['']) -> Float[' b']:
    key = jax.random.fold_in(key, number)
    x0 = pixels(batch['video'])
    cond = make_condition(jax.random.fold_in(key, times), x0, batch)

    def loss_at(i):
      t = to_times(jnp.full(len(x0), (i + 0.5) / times))
      eps = jax.random.normal(jax.random.fold_in(key, i), x0.shape)
      predicted = apply(params, process.corrupt(x0, t, eps), t, cond)
      wanted, noise = target(params, x0, eps, t, cond)
      return squared_error(process, predicted, wanted, t, noise)

    return jnp.mean(jax.lax.map(loss_at, jnp.arange(times)), axis=0)

  return evaluate


def mean_loss(
  losses: Callable[[int, dict], Float[' b']], batches: Sequence[dict], counts: Sequence[int]
) -> float:
  """The mean of `losses(number, batch)` over the first `counts` examples of each batch.

  Batches are evaluated one after the other, so that more of them need no more device memory.
  """
  each = [np.asarray(losses(number, batch)) for number, batch in enumerate(batches)]
  each = [losses[:count] for losses, count in zip(each, counts, strict=True)]
  return float(np.concatenate(each).mean(dtype=np.float64))
