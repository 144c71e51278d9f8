"""The parts of a data source.

A source whose videos have several shapes has a part for each shape, because a batch has one shape.
Several sources that are read together are parts too.  `data.order` has the order in which examples
are read from the parts.
"""

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Part:
  """Some examples of a data source."""

  source: Any  # as `data.pipeline` defines it
  examples: range  # their indices in the source
  share: Fraction = Fraction(1)  # of what is read of the source: its parts together have 1
  bucket: int = 0  # a batch is of one bucket, whose videos have the same shape


@dataclasses.dataclass(frozen=True)
class Joined:
  """A data source of several parts, whose examples are read from the sources of the parts."""

  parts: Sequence[Part]

  def __len__(self) -> int:
    return sum(len(part.examples) for part in self.parts)


def parts(source) -> Sequence[Part]:
  """The parts of a data source, which is one part unless it has `parts`."""
  return source.parts if hasattr(source, 'parts') else [Part(source, range(len(source)))]


def mixed(sources: Sequence, weights: Sequence[int | float]) -> Joined:
  """The sources, of which each is read as often as its weight says, relative to the others."""
  return Joined(
    [
      dataclasses.replace(part, share=part.share * Fraction(weight))
      for source, weight in zip(sources, weights, strict=True)
      for part in parts(source)
    ]
  )


def wrapped(source, wrap: Callable) -> Joined:
  """The same parts, of the source that `wrap` returns for the source of each."""
  return Joined([dataclasses.replace(p, source=wrap(p.source)) for p in parts(source)])


def by_bucket(source) -> list[Joined]:
  """The parts of each bucket, those of a bucket together."""
  each = parts(source)
  buckets = sorted({part.bucket for part in each})
  return [Joined([part for part in each if part.bucket == bucket]) for bucket in buckets]


def draw(source, index, rng: np.random.Generator) -> dict:
  """The example `index` of a data source, with its window drawn with `rng` if it draws one."""
  return source.draw(index, rng) if hasattr(source, 'draw') else source[index]


def left_out(source) -> list[str]:
  """How many clips of each dataset a data source does not use, and why."""
  reasons = (getattr(part.source, 'left_out', '') for part in parts(source))
  return list(dict.fromkeys(filter(None, reasons)))
