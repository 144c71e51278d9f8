"""Which updates are not made, and when a run gives up.

An update whose loss or gradient is not finite would end in parameters that are not, and one of a
loss far above the usual (a spike, of which Chowdhery et al., 2022, Sec. 5.1, had about 20) can undo
days of training.  Both are left out: all but the number of the step stays as it was.
"""

import jax
import jax.numpy as jnp

from core.typing import Float

KEEP = 0.98  # of the mean of past losses at each step: about 50 of them count


def start() -> dict[str, jax.Array]:
  """What is remembered, before the first step: how many updates were left out, how many of them
  just now in a row, and the usual loss, 0 where none is known."""
  nothing = jnp.zeros((), jnp.int32)
  return {'skipped': nothing, 'in_a_row': nothing, 'usual_loss': jnp.zeros(())}


def judge(guard, loss: Float[''], grad_norm: Float[''], spike: float):
  """Whether the update is sound, and what is remembered after it.

  spike: how many times the usual loss is too much; 0 lets any finite one pass.
  """
  usual = guard['usual_loss']
  sound = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
  if spike:
    sound &= (usual == 0) | (loss <= spike * usual)
  mean = jnp.where(usual == 0, loss, KEEP * usual + (1 - KEEP) * loss)
  return sound, {
    'skipped': guard['skipped'] + ~sound,
    'in_a_row': jnp.where(sound, 0, guard['in_a_row'] + 1),
    'usual_loss': jnp.where(sound, mean, usual),
  }


def chosen(sound, new, old):
  """One of two trees, by a bool that is known on the device alone."""
  return jax.tree.map(lambda a, b: jnp.where(sound, a, b), new, old)


def report(step: int, metrics: dict, abort_after: int) -> str | None:
  """What there is to say of a step whose update was left out; nothing of any other.

  step: its number, from 1.  FloatingPointError where it was the last of `abort_after` in a row.
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
