"""The state of training: what a step changes, and so what a checkpoint holds."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from core.typing import Params
from training import guard


@flax.struct.dataclass
class State:
  """The state between two steps.

  Frozen parameters are not part of it: they have no gradient, no optimizer state and no average.
  """

  # The fields are untyped because they hold trees of arrays, of shapes or of shardings.
  step: Any
  params: Any
  ema: Any
  opt: Any
  guard: Any  # the state of `training.guard`

  @classmethod
  def create(cls, params: Params, tx: optax.GradientTransformation) -> 'State':
    """The state before the first step, made from the parameters to train."""
    zero, average = jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params)
    return cls(zero, params, average, tx.init(params), guard.start())
