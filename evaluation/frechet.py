"""The Fréchet distance of two sets of features, of which no more is kept than their moments.

Dowson & Landau, 1982; Heusel et al., 2017 (FID); Unterthiner et al., 2018 (FVD).
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from core.errors import UserError

FEWEST = 2  # samples: one has no covariance


@dataclasses.dataclass(frozen=True)
class Moments:
  """Of features seen so far, float64: their number, their mean and their scatter around it."""

  count: int
  mean: Float[np.ndarray, ' d']
  scatter: Float[np.ndarray, 'd d']

  @property
  def covariance(self) -> Float[np.ndarray, 'd d']:
    """The unbiased one; ValueError of fewer samples than have any."""
    if self.count < FEWEST:
      raise UserError(f'Got {self.count} samples; a covariance needs {FEWEST} or more.')
    return self.scatter / (self.count - 1)


def moments(features: Float[np.ndarray, 'n d']) -> Moments:
  """Those of the features, of which there is one or more; ValueError where one is not finite."""
  if not np.isfinite(features).all():
    raise UserError(f'{(~np.isfinite(features)).any(1).sum()} of {len(features)} are not finite.')
  features = features.astype(np.float64)
  mean = features.mean(0)
  centred = features - mean
  return Moments(len(features), mean, centred.T @ centred)


def joined(a: Moments, b: Moments) -> Moments:
  """Those of both sets together (Chan et al., 1979), which lose no digits as sums of squares do."""
  count, apart = a.count + b.count, b.mean - a.mean
  scatter = a.scatter + b.scatter + np.outer(apart, apart) * (a.count * b.count / count)
  return Moments(count, a.mean + apart * (b.count / count), scatter)


def distance(a: Moments, b: Moments) -> float:
  """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), zero or more.

  With roots C = R R^T the last trace is the sum of singular values of R_a^T R_b, which is real and
  stable where covariances are singular, as those of fewer samples than features are: a root of
  their product need not exist then.
  """
  ca, cb = a.covariance, b.covariance
  overlap = np.linalg.svd(_root(ca).T @ _root(cb), compute_uv=False).sum()
  squared = np.square(a.mean - b.mean).sum() + np.trace(ca) + np.trace(cb) - 2 * overlap
  return max(float(squared), 0.0)


def _root(covariance):
  """R, of as many columns as the rank, where R R^T is the covariance."""
  values, vectors = np.linalg.eigh(covariance)
  # Below this is what rounding left of zeros, which would count by their roots.
  seen = values > len(values) * np.finfo(np.float64).eps * values.max()
  return vectors[:, seen] * np.sqrt(values[seen])
