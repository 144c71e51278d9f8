"""What a config's stage is trained on, and what it is evaluated on."""

import contextlib
import dataclasses
import itertools
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from data.fixed import Fixed
from data.masks import Masked
from data.pictures import Picture
from data.pipeline import SYNTHETIC, batches, open_source, splits
from text.encoder import Encoder
from training.monitor import say

HELD_OUT = 'evaluation_loss'  # the metric of clips that are not trained on
TRAINED_ON = 'evaluation_loss_on_training_data'  # the metric where there are no others


@dataclasses.dataclass(frozen=True)
class Evaluated:
  """What is evaluated while a model is trained."""

  examples: Fixed
  metric: str  # the name of their loss
  what: str  # they are, in words


def open_examples(config: ConfigDict, split: str = 'train'):
  """The source of what is trained on, or of another split of it."""
  if s := config.style:
    caption = f'{s.content} {s.descriptor}'.strip()
    return Picture(pathlib.Path(s.image), caption, config.data.size, tell=say)
  source = open_source(**config.data, split=split)
  return Masked(source, config.masks.to_dict()) if config.masks else source


def open_evaluated(config: ConfigDict, trained_on) -> Evaluated:
  """The examples by whose loss models compare.

  They are `evaluate_clips` of the split 'validation' of a dataset, or all where it has fewer, and
  `evaluate_batch` of that of the moving shapes.  A dataset without that split, and the one picture
  of a style, are evaluated on what is trained on, which the name of the metric says.

  trained_on: the source which `open_examples` opened.
  """
  if config.style:
    examples = Fixed(trained_on, config.evaluate_batch)
    what = f'{len(examples)} squares of {config.style.image}, which is trained on'
    return Evaluated(examples, TRAINED_ON, what)
  source = config.data.source
  count = config.evaluate_batch if source == SYNTHETIC else config.evaluate_clips
  if 'validation' in splits(source):
    examples = Fixed(open_examples(config, 'validation'), count)
    what = f'{len(examples)} clips of the split validation of {source}'
    return Evaluated(examples, HELD_OUT, what)
  examples = Fixed(trained_on, count)
  what = f'{len(examples)} clips of {source} that are trained on: it has no split validation'
  return Evaluated(examples, TRAINED_ON, what)


def fixed_batches(
  examples: Fixed, encode: Encoder, batch: int, rows: Sequence[int] | None = None
) -> list[dict[str, np.ndarray]]:
  """The batches of all examples, or these `rows` of each: see `batches`.

  The last one is filled up with the first examples.
  """
  with contextlib.closing(
    batches(examples, encode, batch=batch, seed=0, shuffle=False, rows=rows)
  ) as data:
    return list(itertools.islice(data, math.ceil(len(examples) / batch)))
