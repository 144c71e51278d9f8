"""States of training, saved and restored: what tests of checkpoints share."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from training import checkpoint, resume
from training.state import State

TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(0, 1, 9)))


class Data(Iterator):
  """Stands for the data: it has a position."""

  def __init__(self, position):
    self.position = position

  def __next__(self):
    self.position += 1

  def get_state(self):
    return {'batches': self.position}

  def set_state(self, state):
    self.position = state['batches']


def state(seed=0, step=3, dtype='float32'):
  """One in which everything differs from everything else."""
  rng = np.random.default_rng(seed)
  shapes = {'unit': {'temporal_conv0': {'kernel': (8, 16), 'bias': (16,)}}}
  new = lambda shape: jnp.zeros(shape, dtype)
  params = jax.tree.map(new, shapes, is_leaf=lambda x: isinstance(x, tuple))
  random = lambda p: jnp.asarray(100 * rng.normal(size=p.shape), p.dtype)
  return jax.tree.map(random, State.create(params, TX)).replace(step=jnp.int32(step))


def same(a, b):
  """By bits: NaN and the sign of zero count."""

  def check(a, b):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()

  jax.tree.map(check, a, b)  # raises where the structures differ


def no_messages(message):
  raise AssertionError(f'There is nothing to tell of, but: {message}')


def saved(workdir, *states, keep=None, data=None):
  with checkpoint.manager(workdir, keep=keep) as checkpoints:
    for s in states:
      checkpoint.save(checkpoints, s, data or Data(int(s.step)))
      checkpoint.finish(checkpoints)


def restored(workdir, **options):
  """The step of the restored `state(step)`, or 0 if nothing is restored, and the messages."""
  messages, data = [], Data(0)
  got = resume.restore(workdir, state(99, step=0), data, messages.append, **options)
  step = int(got.step) if got else 0
  if got:
    same(got, state(step, step=step))
  assert data.position == step
  return step, messages


def flip(path):
  """Damages a file by one bit."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))
