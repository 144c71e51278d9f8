"""One step of training."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from einops import rearrange

from core.condition import Condition
from core.params import merge
from core.typing import Float, Key, Params, Time, Video
from diffusion.loss import squared_error
from diffusion.process import Process
from training import average, guard
from training.state import State

# (params, x_t, t, condition) -> the prediction that the process asks for: eps, v or x_0.
Apply = Callable[[Params, Video, Time, Condition], Float['b ...']]
# `diffusion.loss` makes both: from numbers in [0, 1) to times, and from times to weights of losses.
ToTimes = Callable[[Float[' b']], Time]
ToWeights = Callable[[Time], Float[' b']]
# From numbers and times to the times of inputs: `diffusion.loss.less_noisy`.
ToInputs = Callable[[Float[' b'], Time], Time]
# (key, x_0, batch) -> the condition, of which a part may be computed from the clean video.
MakeCondition = Callable[[Key, Video, dict], Condition]
# (frozen parameters, x_0, eps, t, condition) -> the x_0 and the eps that the network is to predict.
Target = Callable[[Params, Video, Video, Time, Condition], tuple[Video, Video]]


def clean(frozen: Params, x0: Video, eps: Video, t: Time, cond: Condition) -> tuple[Video, Video]:
  """The target of a network that is trained on data: the clean video and the noise."""
  return x0, eps


def condition_on_text(key: Key, x0: Video, batch: dict) -> Condition:
  """The condition of a model of texts."""
  return Condition(batch['text'], batch['text_mask'])


def pixels(video) -> Video:
  """uint8 frames as float32 in [-1, 1]."""
  return jnp.asarray(video, jnp.float32) / 127.5 - 1


def make_step(
  apply: Apply,
  process: Process,
  tx: optax.GradientTransformation,
  *,
  steps: int,
  ema_decay: float,
  drop_text: float,
  accumulate: int,
  times: ToTimes = lambda u: u,
  weight: ToWeights = jnp.ones_like,
  less_noisy: ToInputs = lambda u, t: t,
  target: Target = clean,
  spike: float = 0.0,
  make_condition: MakeCondition = condition_on_text,
):
  """Returns `step(state, frozen, batch, key) -> (state, metrics)`, to be jitted.

  A batch has `video` (uint8, b t h w c), `text` (b n d), `text_mask` (b n), and the other arrays
  from which `make_condition` makes the condition.  The text of a fraction `drop_text` of the
  examples is dropped, for classifier-free guidance.

  The gradient is averaged over `accumulate` microbatches; the random draws do not depend on how
  many there are.  `times` maps numbers in [0, 1) to times, and `weight` maps times to the weights
  of the squared errors there.  `less_noisy` maps them to the times of the inputs, if those are not
  those on which the network is conditioned, and `target` maps the clean video to the one that the
  network is to predict, if that is another.  `training.guard` leaves out updates that it finds
  unsound, for which it needs `spike`.  Parameters are averaged with `ema_decay`, and with less of
  it early in a run of this many `steps`, as `training.average` says; the metric `ema_decay` is the
  decay at this step.

  A batch may have `stop`, an array of bools.  The metric `stop` says whether any of them is true,
  so that all processes learn at the same step that one of them got a signal.
  """
  gradient = make_gradient(apply, process, accumulate, weight, target)

  def step(state: State, frozen: Params, batch, key: Key):
    key = jax.random.fold_in(key, state.step)
    example = draw(batch, key, drop_text, times, make_condition, less_noisy)
    loss, grads = gradient(state.params, frozen, example)
    grad_norm = optax.tree.norm(grads)
    sound, remembered = guard.judge(state.guard, loss, grad_norm, spike)
    updates, opt = tx.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    new_weight = average.weight(state.step - state.guard['skipped'], steps, ema_decay)
    ema = optax.incremental_update(params, state.ema, new_weight)
    params, ema, opt = guard.chosen(sound, (params, ema, opt), (state.params, state.ema, state.opt))
    metrics = {
      'loss': loss,
      'grad_norm': grad_norm,
      'param_norm': optax.tree.norm(params),
      'update_norm': jnp.where(sound, optax.tree.norm(updates), 0.0),
      'ema_decay': 1 - new_weight,
      'skipped': remembered['skipped'],
      'in_a_row': remembered['in_a_row'],
      'stop': jnp.any(batch.get('stop', False)),
    }
    return State(state.step + 1, params, ema, opt, remembered), metrics

  return step


def make_gradient(
  apply: Apply, process: Process, accumulate: int, weight: ToWeights, target: Target = clean
):
  """Returns `gradient(params, frozen, example) -> (loss, gradient)`.

  example: what `draw` returns.  Both results are means over `accumulate` microbatches of it.
  """

  def loss(params, frozen, part):
    x0, conditioned, t, eps, cond = part
    predicted = apply(merge(params, frozen), process.corrupt(x0, t, eps), conditioned, cond)
    x0, eps = target(frozen, x0, eps, t, cond)
    return jnp.mean(weight(t) * squared_error(process, predicted, x0, t, eps))

  def gradient(params, frozen, example):
    loss_and_grad = jax.value_and_grad(loss)
    if accumulate == 1:  # without a loop: in one, XLA's CPU backend convolves 50 times more slowly
      return loss_and_grad(params, frozen, example)
    parts = jax.tree.map(lambda x: rearrange(x, '(b k) ... -> k b ...', k=accumulate), example)
    of_part = lambda part: loss_and_grad(params, frozen, part)
    add = lambda total, part: (jax.tree.map(jnp.add, total, of_part(part)), None)
    zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / accumulate, total)

  return gradient


def draw(
  batch,
  key: Key,
  drop_text: float,
  times: ToTimes = lambda u: u,
  make_condition: MakeCondition = condition_on_text,
  less_noisy: ToInputs = lambda u, t: t,
) -> tuple[Video, Time, Time, Video, Condition]:
  """Of every example of the batch the clean video, the time on which the network is conditioned,
  the time of its input, the noise and the condition.

  Times are stratified: evenly spaced over the batch (Kingma et al., 2021, App. I.1), and then
  mapped to their distribution.
  """
  x0 = pixels(batch['video'])
  b = len(x0)
  key_t, key_order, key_eps, key_drop = jax.random.split(key, 4)
  t = (jax.random.uniform(key_t) + jnp.arange(b) / b) % 1
  t = times(jax.random.permutation(key_order, t))
  eps = jax.random.normal(key_eps, x0.shape)
  cond = make_condition(jax.random.fold_in(key, 4), x0, batch)
  of_input = less_noisy(jax.random.uniform(jax.random.fold_in(key, 5), (b,)), t)
  return x0, t, of_input, eps, cond.without_text(jax.random.bernoulli(key_drop, drop_text, (b,)))
