"""The moving average of parameters, which is evaluated, sampled and exported."""

import jax.numpy as jnp

from core.typing import Float, Int

WARMUP = 0.1  # the share of a run after which the average has its full length


def weight(updates: Int[''], steps: int, decay: float) -> Float['']:
  """The weight of new parameters in their average, after so many updates before this one.

  It is 1 - decay once the average has its full length, which is 1 / (1 - decay) updates.  It has
  that after a tenth of the run of `steps`, or after as many updates as it is long, whichever is
  later.  Until then the weight is  k / (updates + k).  It is 1 at first, so that the initial
  parameters count for nothing; those after update n count about in proportion to n^(k - 1).  With
  k = 1, the least, the average is the mean of all so far.
  """
  k = max(1.0, WARMUP * steps * (1 - decay))
  return jnp.maximum(1 - decay, k / (updates + k))
