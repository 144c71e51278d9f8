"""The training loop: hooks between steps, the next batch, a step."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from training.phases import Clock
from training.state import State

# Completes what a hook began, before the next step.  Its argument says whether none follows; it
# returns whether the run must end.
Finish = Callable[[bool], bool]


@dataclasses.dataclass(frozen=True)
class Hook:
  """What is called between steps."""

  every: int  # steps between two calls; it is also called at the end, and with 0 only there
  call: Callable[[int, State], Finish | None]  # (step, state)
  when_stopped: bool = False  # whether it is called as well where a run stops before its end


def run(
  state: State,
  data: Iterator[dict],
  step: Callable[[State, dict], tuple[State, dict]],
  read_metrics: Callable[[int, dict], bool],
  hooks: Sequence[Hook],
  *,
  steps: int,
  clock: Clock,
) -> State:
  """The state after `steps` steps, counted from the first one of the run, or where it was stopped.

  step: returns the next state and the metrics of the step, which devices may still be computing.
  read_metrics: gets the number of a step and its metrics, waits for them, and returns whether the
    run must stop.  All processes have to get the same result at the same step.
  hooks: called in this order, before the first step too.

  The metrics of a step are read while the next one runs, or before hooks that are due, so that no
  state is saved or evaluated before its metrics are known.  While a hook completes what it began,
  as a checkpoint that is being written, later hooks run and the next batch is made; the next step
  begins when all is complete.
  """
  unread, stopped = None, False
  for number in range(int(state.step), steps + 1):
    due = [hook for hook in hooks if number == steps or is_due(number, hook.every)]
    if unread and (due or stopped or number == steps):
      with clock.during('step'):
        stopped |= read_metrics(*unread)
      unread = None
    if stopped:
      due = [hook for hook in hooks if hook.when_stopped]
    last = stopped or number == steps
    unfinished = [finish for hook in due if (finish := hook.call(number, state))]
    if not last:
      batch = _next_batch(data, clock, unread[1] if unread else None)
    for finish in unfinished:
      last |= finish(last)
    if last:
      break
    with clock.during('step'):
      state, metrics = step(state, batch)
      if unread:
        stopped = read_metrics(*unread)
      unread = number + 1, metrics
  return state


def _next_batch(data: Iterator[dict], clock: Clock, running: Any) -> dict:
  """The next batch, which devices wait for only if the step before it is done.

  running: the metrics of that step.  While it is computed, time counts as that of the step.
  """
  before = clock.seconds.get('data', 0.0)
  with clock.during('data'):
    batch = next(data)
  if any(isinstance(x, jax.Array) and not x.is_ready() for x in jax.tree.leaves(running)):
    clock.count_as('step', 'data', clock.seconds['data'] - before)
  return batch


def is_due(step: int, every: int) -> bool:
  """Whether something that happens every so many steps happens at this one; 0 is never."""
  return every > 0 and step % every == 0
