"""The exponential moving average (EMA) of parameters, which is evaluated, sampled and exported."""

import jax.numpy as jnp

from core.typing import Float, Int

WARMUP = 0.1  # the fraction of a run after which the average has its full length


def weight(updates: Int[''], steps: int, decay: float) -> Float['']:
  """The weight of new parameters in their average, after `updates` earlier ones.

  The full length of the average is 1 / (1 - decay) updates, and the weight is then 1 - decay.  It
  reaches this length after a tenth of the run of `steps`, or after as many updates as it is long,
  whichever is later.  Until then the weight is  k / (updates + k).  The first weight is 1, so that
  the initial parameters do not count; the parameters after update n count about in proportion to
  n^(k - 1).  With the smallest k, 1, the average is the mean of all parameters so far.
  """
  k = max(1.0, WARMUP * steps * (1 - decay))
  return jnp.maximum(1 - decay, k / (updates + k))
