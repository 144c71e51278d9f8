"""How sure a classifier is of each video, and how many classes it sees in all of them."""

import numpy as np
from jaxtyping import Float

from core.errors import UserError


def inception_score(logits: Float[np.ndarray, 'n classes'], splits: int) -> tuple[float, float]:
  """exp of the mean divergence of p(class | video) from p(class), of each split: mean and spread.

  Salimans et al., 2016; of videos by C3D: Saito et al., 2020, "TGANv2".  From 1 to the number of
  classes.  Splits are consecutive, and of n // splits or one more; ValueError where one has none.
  """
  if not 1 <= splits <= len(logits):
    raise UserError(f'Got {splits} splits of {len(logits)} videos; allowed are 1 to that many.')
  parts = np.array_split(logits.astype(np.float64), splits)
  scores = np.array([np.exp(_information(part)) for part in parts])
  return float(scores.mean()), float(scores.std())


def _information(logits) -> float:
  """The mean of KL(p(class | video), p(class)), in nats."""
  logs = logits - np.logaddexp.reduce(logits, 1, keepdims=True)
  mean = np.logaddexp.reduce(logs, 0) - np.log(len(logs))
  return float((np.exp(logs) * (logs - mean)).sum(1).mean())
