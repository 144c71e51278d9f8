"""The optimizer: gradient clipping, a learning-rate schedule, and AdamW, Adafactor or Muon."""

import jax
import optax
import optax.contrib

from core.errors import UserError

DECAYS = ('constant', 'cosine', 'wsd')
STABLE = 0.6  # the part of a run with 'wsd' before the rate falls
# The layers between pixels and features, whose update by Muon is not better than by AdamW.
OUTERMOST = ('conv_in', 'conv_out')


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

  The learning rate rises linearly over `warmup` steps, and then stays constant, falls to zero along
  a cosine, or stays constant for the first `STABLE` of the run and then falls to zero linearly
  ('wsd', warmup, stable, decay: Hu et al., 2024, "MiniCPM").  Gradients are clipped to the global
  norm `clip`.  Weight decay is scaled by the learning rate, and is not applied to biases, norms and
  positions, which have fewer than two axes longer than one.
  """
  schedule = rate(steps, learning_rate=learning_rate, warmup=warmup, decay=decay)
  if name not in OPTIMIZERS:
    raise UserError(f'optim.name is {name!r}; allowed are {", ".join(OPTIMIZERS)}.')
  scale = OPTIMIZERS[name](schedule, weight_decay, b1, b2, eps)
  return optax.chain(optax.clip_by_global_norm(clip), scale)


def _adafactor(schedule, weight_decay, b1, b2, eps):
  """Adafactor (Shazeer & Stern, 2018), which has no first moment, and a factored second one.

  It ignores b1, b2 and eps.  Weight decay differs from that of optax.adafactor: there the learning
  rate does not scale it, and 0.01 is a lot.
  """
  return optax.chain(
    optax.scale_by_factored_rms(),
    optax.clip_by_block_rms(1.0),
    optax.add_decayed_weights(weight_decay, decayed),
    optax.scale_by_learning_rate(schedule),
  )


def _adamw(schedule, weight_decay, b1, b2, eps):
  """AdamW (Loshchilov & Hutter, 2019)."""
  return optax.adamw(schedule, b1, b2, eps, weight_decay=weight_decay, mask=decayed)


def _muon(schedule, weight_decay, b1, b2, eps):
  """Muon (Jordan et al., 2024).

  It orthogonalises the momentum of every kernel between two layers, as a matrix from all inputs of
  an output to the outputs, and scales it by 0.2 sqrt(max(n, m)), so that its RMS is about that of
  an update of AdamW and the same learning rates fit (Liu et al., 2025, "Muon is scalable for LLM
  training", Eq. 4).  All other parameters, and those of the `OUTERMOST` layers, are updated by
  AdamW with Nesterov momentum and without weight decay.  Muon's momentum is 0.95; b1, b2 and eps
  belong to AdamW.
  """
  return optax.contrib.muon(
    schedule,
    weight_decay=weight_decay,
    adam_b1=b1,
    adam_b2=b2,
    adam_eps_root=0.0,
    eps=eps,
    muon_weight_dimension_numbers=matrices,
    consistent_rms=0.2,
  )


OPTIMIZERS = {'adafactor': _adafactor, 'adamw': _adamw, 'muon': _muon}


def rate(steps: int, *, learning_rate: float, warmup: int, decay: str) -> optax.Schedule:
  """The learning rate as a function of the step."""
  if decay not in DECAYS:
    raise UserError(f'optim.decay is {decay!r}; allowed are {", ".join(DECAYS)}.')
  match decay:
    case 'constant':
      after = optax.constant_schedule(learning_rate)
    case 'cosine':
      after = optax.cosine_decay_schedule(learning_rate, max(1, steps - warmup))
    case 'wsd':
      falling = max(1, min(round((1 - STABLE) * steps), steps - warmup))
      after = optax.linear_schedule(learning_rate, 0.0, falling, steps - falling - warmup)
  return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), after], [warmup])


def decayed(params):
  """A tree of bools, true for the parameters to which weight decay is applied: the kernels."""
  return jax.tree.map(lambda p: sum(n > 1 for n in p.shape) > 1, params)


def matrices(params):
  """For each parameter, its axes as a matrix that Muon orthogonalises, or None for AdamW."""

  def axes(path, p):
    layers = [entry.key for entry in path]
    if layers[-1] != 'kernel' or p.ndim < 2 or set(layers) & set(OUTERMOST):
      return None
    return optax.contrib.MuonDimensionNumbers(tuple(range(p.ndim - 1)), p.ndim - 1)

  return jax.tree_util.tree_map_with_path(axes, params)
