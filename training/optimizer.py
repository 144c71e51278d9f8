"""The optimizer: gradient clipping, a learning-rate schedule, and AdamW or Adafactor."""

import jax
import optax

from core.errors import UserError

OPTIMIZERS = ('adafactor', 'adamw')
DECAYS = ('constant', 'cosine')


def make_optimizer(
  steps: int,
  *,
  name: str,
  learning_rate: float,
  warmup: int,
  decay: str,
  clip: float,
  weight_decay: float,
  b1: float,
  b2: float,
  eps: float,
) -> optax.GradientTransformation:
  """An optax chain for a run of `steps` steps; the keywords are the keys of `config.optim`.

  The learning rate rises linearly over `warmup` steps, and then stays constant or falls to zero
  along a cosine.  Gradients are clipped to the global norm `clip`.  Weight decay is scaled by the
  learning rate, and is not applied to biases, norms and positions, which have fewer than two axes
  longer than one.  Adafactor (Shazeer & Stern, 2018) has no first moment, and a factored second
  one; it ignores b1, b2 and eps.
  """
  schedule = rate(steps, learning_rate=learning_rate, warmup=warmup, decay=decay)
  if name == 'adamw':
    scale = optax.adamw(schedule, b1, b2, eps, weight_decay=weight_decay, mask=decayed)
  elif name == 'adafactor':
    # This is optax.adafactor with another weight decay: there the learning rate does not scale it,
    # and 0.01 is a lot.
    scale = optax.chain(
      optax.scale_by_factored_rms(),
      optax.clip_by_block_rms(1.0),
      optax.add_decayed_weights(weight_decay, decayed),
      optax.scale_by_learning_rate(schedule),
    )
  else:
    raise UserError(f'optim.name is {name!r}; allowed are {", ".join(OPTIMIZERS)}.')
  return optax.chain(optax.clip_by_global_norm(clip), scale)


def rate(steps: int, *, learning_rate: float, warmup: int, decay: str) -> optax.Schedule:
  """The learning rate as a function of the step."""
  if decay not in DECAYS:
    raise UserError(f'optim.decay is {decay!r}; allowed are {", ".join(DECAYS)}.')
  if decay == 'constant':
    after = optax.constant_schedule(learning_rate)
  else:
    after = optax.cosine_decay_schedule(learning_rate, max(1, steps - warmup))
  return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), after], [warmup])


def decayed(params):
  """A tree of bools, true for the parameters to which weight decay is applied: the kernels."""
  return jax.tree.map(lambda p: sum(n > 1 for n in p.shape) > 1, params)
