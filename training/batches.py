"""The batches that a run trains on and is evaluated on."""

from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from core.sharding import rows
from data.buckets import Bucket
from data.order import bucket_shares
from data.parts import left_out, parts
from data.pipeline import batches
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
  log_buckets(config.data.get('buckets', ()), source)
  for words in left_out(source):
    log(words)
  clips = config.evaluate_batch
  fixed = fixed_batches(validation.examples, encode, stage, clips, evaluation_rows(clips, mesh))
  own_rows = rows(config.loader.batch, mesh)
  data = batches(source, encode, keys=stage.batch, seed=config.seed, rows=own_rows, **config.loader)
  return data, validation, fixed


def log_buckets(buckets: Sequence[Bucket], source) -> None:
  """Prints how many examples each bucket has, and its share of the batches."""
  shares, lengths = bucket_shares(parts(source)), {}
  for part in parts(source):
    lengths[part.bucket] = lengths.get(part.bucket, 0) + len(part.examples)
  for index, (t, h, w) in enumerate(buckets):
    share = float(shares.get(index, 0))
    log(f'{lengths.get(index, 0):,} of them are {t} x {h} x {w}, in {share:.1%} of the batches')
