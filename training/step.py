"""One step of training, and the evaluation loss."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import rearrange

from core.condition import Condition
from core.params import merge
from core.typing import Float, Int, Key, Params, Time, Video
from diffusion.loss import squared_error
from diffusion.process import Process
from training import average, guard
from training.state import State

# (params, x_t, t, condition) -> what the process wants predicted.
Apply = Callable[[Params, Video, Time, Condition], Float['b ...']]
# (key, x_0, batch) -> the condition, some of which may be made from the clean video.
Conditioning = Callable[[Key, Video, dict], Condition]


def text_alone(key: Key, x0: Video, batch: dict) -> Condition:
  """The condition of a model that is told nothing but a text."""
  return Condition(batch['text'], batch['mask'])


def pixels(video) -> Video:
  """uint8 frames as float32 in [-1, 1]."""
  return video.astype(jnp.float32) / 127.5 - 1


def make_step(
  apply: Apply,
  process: Process,
  tx: optax.GradientTransformation,
  *,
  steps: int,
  ema_decay: float,
  drop_text: float,
  accumulate: int,
  high_noise: float = 1.0,
  spike: float = 0.0,
  conditioning: Conditioning = text_alone,
):
  """Returns `step(state, frozen, batch, key) -> (state, metrics)`, to be jitted.

  A batch holds `video` (uint8, b t h w c), `text` (b n d) and `mask` (b n), and what else
  `conditioning` makes the condition of.  The text of a fraction
  `drop_text` of the examples is dropped, for classifier-free guidance.  The gradient is averaged
  over `accumulate` microbatches; how the batch is cut does not change what is drawn for it.  Times
  are drawn from Beta(high_noise, 1): uniformly at 1, the noisy ones more often above.  An update
  that `training.guard` finds unsound, for which it needs `spike`, is left out.  Parameters are
  averaged with `ema_decay`, and in the beginning of a run of so many `steps` with less of it, as
  `training.average` says; the metric `ema_decay` is what it is in this step.

  A batch that has `stop` (of bools) besides says in the metric `stop` whether any is true.  So
  all processes learn at the same step that one of them was told to stop.
  """

  def loss_fn(params, frozen, part):
    x0, t, eps, cond = part
    predicted = apply(merge(params, frozen), process.corrupt(x0, t, eps), t, cond)
    return jnp.mean(squared_error(process, predicted, x0, t, eps))

  def gradient(params, frozen, example):
    of = jax.value_and_grad(loss_fn)
    if accumulate == 1:  # no loop: XLA's CPU backend is 50 times slower at convolutions inside one
      return of(params, frozen, example)
    parts = jax.tree.map(lambda x: rearrange(x, '(b k) ... -> k b ...', k=accumulate), example)
    add = lambda total, part: (jax.tree.map(jnp.add, total, of(params, frozen, part)), None)
    zeros = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda x: x / accumulate, total)

  def step(state: State, frozen: Params, batch, key: Key):
    example = draw(batch, jax.random.fold_in(key, state.step), drop_text, high_noise, conditioning)
    loss, grads = gradient(state.params, frozen, example)
    grad_norm = optax.tree.norm(grads)
    sound, remembered = guard.judge(state.guard, loss, grad_norm, spike)
    updates, opt = tx.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, updates)
    weight = average.weight(state.step - state.guard['skipped'], steps, ema_decay)
    ema = optax.incremental_update(params, state.ema, weight)
    params, ema, opt = guard.chosen(sound, (params, ema, opt), (state.params, state.ema, state.opt))
    metrics = {
      'loss': loss,
      'grad_norm': grad_norm,
      'param_norm': optax.tree.norm(params),
      'update_norm': jnp.where(sound, optax.tree.norm(updates), 0.0),
      'ema_decay': 1 - weight,
      'skipped': remembered['skipped'],
      'in_a_row': remembered['in_a_row'],
      'stop': jnp.any(batch.get('stop', False)),
    }
    return State(state.step + 1, params, ema, opt, remembered), metrics

  return step


def draw(
  batch,
  key: Key,
  drop_text: float,
  high_noise: float = 1.0,
  conditioning: Conditioning = text_alone,
) -> tuple[Video, Time, Video, Condition]:
  """Clean video, time, noise and condition of a training example for each of the batch.

  Times are evenly spread over the batch (Kingma et al., 2021, App. I.1), in their distribution.
  """
  x0 = pixels(batch['video'])
  b = len(x0)
  key_t, key_order, key_eps, key_drop = jax.random.split(key, 4)
  t = (jax.random.uniform(key_t) + jnp.arange(b) / b) % 1
  t = jax.random.permutation(key_order, t) ** (1 / high_noise)  # the inverse of the Beta's CDF
  eps = jax.random.normal(key_eps, x0.shape)
  cond = conditioning(jax.random.fold_in(key, 4), x0, batch)
  return x0, t, eps, cond.without_text(jax.random.bernoulli(key_drop, drop_text, (b,)))


def make_evaluation(
  apply: Apply,
  process: Process,
  *,
  times: int,
  conditioning: Conditioning = text_alone,
):
  """Returns `evaluate(params, batch, key, number) -> losses`, one of each example, to be jitted.

  A loss is the mean over so many evenly spaced times.  The same key draws the same noise for an
  example of the batch of the same `number`, whatever follows it in the batch, so that losses of
  fixed batches compare.
  """

  def evaluate(params: Params, batch, key: Key, number: Int['']) -> Float[' b']:
    key = jax.random.fold_in(key, number)
    x0 = pixels(batch['video'])
    cond = conditioning(jax.random.fold_in(key, times), x0, batch)

    def at(i):
      t = jnp.full(len(x0), (i + 0.5) / times)
      eps = jax.random.normal(jax.random.fold_in(key, i), x0.shape)
      predicted = apply(params, process.corrupt(x0, t, eps), t, cond)
      return squared_error(process, predicted, x0, t, eps)

    return jnp.mean(jax.lax.map(at, jnp.arange(times)), axis=0)

  return evaluate


def mean_loss(losses: Callable[[int, dict], Float[' b']], batches: Sequence[dict], count: int):
  """The mean over the first `count` examples of `losses(number, batch)`, a float.

  One batch is evaluated after the other, so that more of them take no more memory of devices.
  """
  found = [np.asarray(losses(number, batch)) for number, batch in enumerate(batches)]
  return float(np.concatenate(found)[:count].mean(dtype=np.float64))
