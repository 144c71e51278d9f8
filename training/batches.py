"""The batches that a run trains on and is evaluated on."""

import jax
from ml_collections import ConfigDict

from core.sharding import rows
from data.pipeline import batches, left_out
from training.monitor import log
from training.stage import Stage
from training.validation import evaluation_rows, fixed_batches, open_validation


def open_batches(config: ConfigDict, stage: Stage, mesh: jax.sharding.Mesh):
  """The iterator of training batches, the `Validation`, and the list of its batches.

  Each batch holds only the rows that the devices of this process need.
  """
  encode, source = stage.encode, stage.data.open('train')
  validation = open_validation(config, stage, source)
  log(f'{len(source):,} examples to train on; {validation.metric} is of {validation.description}')
  if words := left_out(source):
    log(f'{stage.data.name}: {words}')
  clips = config.evaluate_batch
  fixed = fixed_batches(validation.examples, encode, stage, clips, evaluation_rows(clips, mesh))
  own_rows = rows(config.loader.batch, mesh)
  data = batches(source, encode, keys=stage.batch, seed=config.seed, rows=own_rows, **config.loader)
  return data, validation, fixed
