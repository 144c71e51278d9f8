"""Mixtures: several data sources that are read together, with weights."""

import math
import numbers
from collections.abc import Sequence

from core.errors import UserError
from data import named, pipeline
from data.parts import mixed

Mixture = Sequence  # of the name of each source and its weight


def open_sources(source: str, *, mixture: Mixture = (), caption_template: str = '', **options):
  """The data source called `source`, or a mixture of several.

  mixture: `data.mixture` of a config: names of sources with weights.  A source is read as often as
    its weight says, relative to the sum of all weights.
  caption_template: for sources that are datasets of TFDS; see `named.Named`.
  options: those of `pipeline.open_source`.
  """
  if caption_template and not any(n.startswith(named.PREFIX) for n in names(source, mixture)):
    raise UserError(
      f'Got data.caption_template={caption_template!r}; it is for sources such as tfds:ucf101.  '
      'data.builder has --caption_template.'
    )
  options |= {'caption_template': caption_template}
  opened = [pipeline.open_source(name, **options) for name in names(source, mixture)]
  return mixed(opened, [weight for _, weight in mixture]) if mixture else opened[0]


def splits(source: str, mixture: Mixture = ()) -> list[str]:
  """The names of the splits that all sources have; see `open_sources`."""
  return sorted(set.intersection(*(set(pipeline.splits(s)) for s in names(source, mixture))))


def names(source: str, mixture: Mixture = ()) -> list[str]:
  """The names of the sources of `open_sources`.

  UserError if the mixture is not one of names and weights above 0, or if both are given.
  """
  if not mixture:
    return [source]
  if not all(map(_is_weighted, mixture)):
    raise UserError(
      f'Got data.mixture={tuple(mixture)}; allowed are names of sources with weights above 0, as '
      "in (('runs/clips', 0.7), ('runs/images', 0.3))."
    )
  if source != pipeline.SYNTHETIC:
    raise UserError(
      f'Got both data.source={source} and a data.mixture; allowed is one of them.  A mixture may '
      'have that source, too.'
    )
  return [name for name, _ in mixture]


def _is_weighted(each) -> bool:
  if not isinstance(each, tuple | list) or len(each) != 2:
    return False
  name, weight = each
  is_number = isinstance(weight, numbers.Real) and math.isfinite(weight)
  return isinstance(name, str) and is_number and weight > 0
