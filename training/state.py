"""What a step of training changes, and so what a checkpoint holds."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from core.typing import Params
from training import guard


@flax.struct.dataclass
class State:
  """Frozen parameters are not here: they get no gradient, no optimizer memory and no average."""

  step: Any  # fields are trees of arrays, of shapes, or of shardings: left untyped
  params: Any
  ema: Any
  opt: Any
  guard: Any  # what `training.guard` remembers

  @classmethod
  def create(cls, params: Params, tx: optax.GradientTransformation) -> 'State':
    """The state before the first step, from the parameters to train."""
    zero, average = jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params)
    return cls(zero, params, average, tx.init(params), guard.start())
