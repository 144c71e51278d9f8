"""Statistics of features and logits: the Fréchet distance and the inception score.

The Fréchet distance is by Dowson & Landau, 1982; Heusel et al., 2017, use it for images (FID) and
Unterthiner et al., 2018, for videos (FVD).  Only the moments of the features are kept.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from core.errors import UserError

MIN_SAMPLES = 2  # a single sample has no covariance


@dataclasses.dataclass(frozen=True)
class Moments:
  """The number of features, their mean, and their scatter around it, in float64."""

  count: int
  mean: Float[np.ndarray, ' d']
  scatter: Float[np.ndarray, 'd d']

  @property
  def covariance(self) -> Float[np.ndarray, 'd d']:
    """The unbiased covariance; UserError for fewer than `MIN_SAMPLES` samples."""
    if self.count < MIN_SAMPLES:
      raise UserError(f'Got {self.count} samples; a covariance needs {MIN_SAMPLES} or more.')
    return self.scatter / (self.count - 1)


def feature_moments(features: Float[np.ndarray, 'n d']) -> Moments:
  """The moments of one or more features; UserError where a feature is not finite."""
  if not np.isfinite(features).all():
    raise UserError(f'{(~np.isfinite(features)).any(1).sum()} of {len(features)} are not finite.')
  features = features.astype(np.float64)
  mean = features.mean(0)
  centred = features - mean
  return Moments(len(features), mean, centred.T @ centred)


def merge_moments(a: Moments, b: Moments) -> Moments:
  """The moments of both sets together (Chan et al., 1979).

  Unlike sums of squares, this loses no digits.
  """
  count, difference = a.count + b.count, b.mean - a.mean
  scatter = a.scatter + b.scatter + np.outer(difference, difference) * (a.count * b.count / count)
  return Moments(count, a.mean + difference * (b.count / count), scatter)


def frechet_distance(a: Moments, b: Moments) -> float:
  """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), zero or more.

  With factors C = R R^T, the trace of the root is the sum of the singular values of R_a^T R_b.  It
  is real and stable also for singular covariances, such as those of fewer samples than features,
  whose product need not have a square root.
  """
  cov_a, cov_b = a.covariance, b.covariance
  overlap = np.linalg.svd(_factor(cov_a).T @ _factor(cov_b), compute_uv=False).sum()
  squared = np.square(a.mean - b.mean).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
  return max(float(squared), 0.0)


def inception_score(logits: Float[np.ndarray, 'n classes'], splits: int) -> tuple[float, float]:
  """The mean and the standard deviation of the inception score over splits.

  The score of a split is exp of the mean KL divergence of p(class | video) from p(class), and lies
  between 1 and the number of classes (Salimans et al., 2016; for videos, by C3D, Saito et al.,
  2020, "TGANv2").  Splits are consecutive, and their sizes differ by one at most; UserError where
  one would be empty.
  """
  if not 1 <= splits <= len(logits):
    raise UserError(f'Got {splits} splits of {len(logits)} videos; allowed are 1 to that many.')
  parts = np.array_split(logits.astype(np.float64), splits)
  scores = np.array([np.exp(_mutual_information(part)) for part in parts])
  return float(scores.mean()), float(scores.std())


def _factor(covariance):
  """R with R R^T equal to the covariance; it has as many columns as the rank."""
  values, vectors = np.linalg.eigh(covariance)
  # Smaller eigenvalues are rounding errors of zeros, and their roots would count.
  kept = values > len(values) * np.finfo(np.float64).eps * values.max()
  return vectors[:, kept] * np.sqrt(values[kept])


def _mutual_information(logits) -> float:
  """The mean of KL(p(class | video), p(class)), in nats."""
  log_probs = logits - np.logaddexp.reduce(logits, 1, keepdims=True)
  log_marginal = np.logaddexp.reduce(log_probs, 0) - np.log(len(log_probs))
  return float((np.exp(log_probs) * (log_probs - log_marginal)).sum(1).mean())
