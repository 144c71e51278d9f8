"""Updates that are left out because they would damage the parameters, and when a run gives up.

If a loss or gradient is not finite, neither are the updated parameters.  A loss far above the usual
one (a spike; Chowdhery et al., 2022, Sec. 5.1, saw about 20) can undo days of training.  Both kinds
of update are left out: only the number of the step changes.
"""

import jax
import jax.numpy as jnp

from core.typing import Float

DECAY = 0.98  # of the moving average of losses, which is about 50 steps long


def start() -> dict[str, jax.Array]:
  """The guard's state before the first step.

  skipped: the number of updates that were left out; in_a_row: how many of them since the last one
  that was made; usual_loss: the average loss, 0 before there is one.
  """
  zero = jnp.zeros((), jnp.int32)
  return {'skipped': zero, 'in_a_row': zero, 'usual_loss': jnp.zeros(())}


def judge(guard, loss: Float[''], grad_norm: Float[''], spike: float):
  """Whether the update is sound, and the guard's next state.

  spike: an update is left out if its loss is above the usual one by more than this factor; with 0,
    any finite loss is allowed.
  """
  usual = guard['usual_loss']
  sound = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
  if spike:
    sound &= (usual == 0) | (loss <= spike * usual)
  mean = jnp.where(usual == 0, loss, DECAY * usual + (1 - DECAY) * loss)
  return sound, {
    'skipped': guard['skipped'] + ~sound,
    'in_a_row': jnp.where(sound, 0, guard['in_a_row'] + 1),
    'usual_loss': jnp.where(sound, mean, usual),
  }


def chosen(sound, new, old):
  """`new` if `sound` and else `old`, two trees; `sound` is a bool on the device."""
  return jax.tree.map(lambda a, b: jnp.where(sound, a, b), new, old)


def report(step: int, metrics: dict, abort_after: int) -> str | None:
  """A message about a step whose update was left out; None for any other step.

  step: the number of the step, from 1.  FloatingPointError if this is the last of `abort_after`
    updates in a row that were left out.
  """
  row = metrics['in_a_row']
  if not row:
    return None
  what = f'loss {metrics["loss"]:g}, gradient norm {metrics["grad_norm"]:g}'
  if row >= abort_after:
    raise FloatingPointError(
      f'The updates of steps {step - row + 1} to {step} were left out, the last for its {what}: '
      f'{abort_after} in a row are the most allowed (guard.abort_after).  Nothing of them is in '
      'the parameters.'
    )
  return f'step {step}: {what}; its update is left out, {metrics["skipped"]} so far'
