"""The loop with a step that adds one, and checkpoints that are real."""

import contextlib
import json
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import pytest

from tests.states import Data
from training import checkpoint, hooks, loop, resume
from training.metrics import Metrics
from training.phases import PHASES, Clock
from training.state import State

STEPS, SAVE_EVERY = 6, 2


class Examples(Data):
  """Empty batches."""

  def __init__(self):
    super().__init__(0)
    self.counts = {}

  def __next__(self):
    super().__next__()
    return {}

  def add_workers(self):
    return 0


def zeros():
  zero = {'x': jnp.zeros(())}
  return State(jnp.int32(0), zero, zero, {}, {})


def make_step(stop_signal):
  def step(state, batch):
    metrics = {'loss': 1.0, 'grad_norm': 1.0, 'in_a_row': 0, 'skipped': 0}
    metrics['stop'] = bool(stop_signal())
    params = {'x': state.params['x'] + 1}
    state = state.replace(step=state.step + 1, params=params, ema=params)
    return state, {name: np.asarray(value) for name, value in metrics.items()}

  return step


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Runs the loop where saves of some steps fail; returns the last step."""

  def nothing(params, step):
    return {}

  def run(
    fails=(),
    stop_signal=lambda: '',
    sample=nothing,
    score=nothing,
    sample_every=0,
    score_every=0,
    stop_if_failed=False,
  ):
    finish_save, saving = checkpoint.finish, []

    def save(checkpoints, state, *args, act=checkpoint.save):
      saving[:] = [int(state.step)]
      if (saving[0], 'save') in fails:
        raise OSError('A checkpoint could not be saved: No space left on device')
      act(checkpoints, state, *args)

    def finish(checkpoints):
      finish_save(checkpoints)
      if (saving[0], 'finish') in fails:
        raise OSError('A checkpoint could not be saved: No space left on device')

    data, clock, losses, average = Examples(), Clock(), {}, lambda state: state.ema
    with monkeypatch.context() as patch:
      patch.setattr(checkpoint, 'save', save)
      patch.setattr(checkpoint, 'finish', finish)
      with (
        contextlib.closing(checkpoint.manager(tmp_path)) as checkpoints,
        Metrics(tmp_path) as metrics,
      ):
        state = loop.run(
          zeros(), data, make_step(stop_signal),
          hooks.make_read_metrics(
            metrics, lambda step, loss: {}, dict, data, clock,
            start=0, log_every=1, abort_after=3,
          ),
          [
            hooks.evaluation(0, lambda params: {'loss_of_x': 0.5}, average, metrics, clock, losses),
            hooks.saving(
              SAVE_EVERY, checkpoints, data, 0, metrics, clock, losses,
              stop_if_failed=stop_if_failed,
            ),
            hooks.sampling(sample_every, sample, average, clock),
            hooks.scoring(score_every, score, average, metrics, clock),
          ],
          steps=STEPS, clock=clock,
        )  # fmt: skip
    return int(state.step)

  return run


def records(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [line['step'] for line in map(json.loads, lines) if 'saved' in line]


def test_complete_checkpoints_are_in_the_metrics(run, tmp_path):
  assert run() == 6
  assert checkpoint.steps(tmp_path) == [6, 4, 2]
  assert records(tmp_path) == [2, 4, 6]


@pytest.mark.parametrize('when', ['save', 'finish'])
def test_a_save_that_failed_is_reported_and_the_run_goes_on(run, tmp_path, capsys, when):
  assert run({(2, when), (4, when)}) == 6
  text = capsys.readouterr().err
  assert text.count('No space left on device  The run goes on; the next checkpoint may do.') == 2
  assert records(tmp_path) == [6]


@pytest.mark.parametrize('what', ['sample', 'score'])
def test_samples_or_scores_that_cannot_be_written_are_reported_and_the_run_goes_on(
  run, tmp_path, capsys, what
):
  def full(params, step):
    raise OSError('Cannot write 0.png: No space left on device.')

  assert run(**{what: full, f'{what}_every': 3}) == 6
  text = capsys.readouterr().err
  for step in (3, 6):
    assert (
      f'Cannot write 0.png: No space left on device.  {what.title()}s of step {step} are' in text
    )
  assert records(tmp_path) == [2, 4, 6]


@pytest.mark.parametrize('when', ['save', 'finish'])
def test_a_last_save_that_failed_is_reported_and_nothing_goes_on(run, tmp_path, capsys, when):
  assert run({(6, when)}) == 6
  text = capsys.readouterr().err
  assert text.count('A checkpoint could not be saved: No space left on device') == 1
  assert 'The run goes on' not in text
  assert records(tmp_path) == [2, 4]


def test_so_is_a_failed_save_after_a_signal(run, tmp_path, capsys):
  signals = iter(['', '', 'SIGTERM'])
  assert run({(4, 'save')}, stop_signal=lambda: next(signals, 'SIGTERM')) == 4
  assert 'The run goes on' not in capsys.readouterr().err
  assert checkpoint.steps(tmp_path) == [2]


def test_a_run_may_end_with_the_first_save_that_failed(run, tmp_path, capsys):
  assert run({(4, 'finish')}, stop_if_failed=True) == 4
  assert 'The run goes on' not in capsys.readouterr().err
  assert records(tmp_path) == [2]


def test_a_run_whose_checkpoints_are_removed_is_refused(run, tmp_path):
  run()
  (tmp_path / 'checkpoints').rename(tmp_path / 'elsewhere')
  with pytest.raises(ValueError, match='has saved step 6, and'):
    resume.require_checkpoints(tmp_path)


def test_hooks_are_called_in_order_and_complete_before_the_next_step():
  events, clock = [], Clock()

  def hook(name, every, when_stopped=False):
    def call(step, state):
      events.append(f'{name} {step}')
      return lambda last: bool(events.append(f'{name} {step} complete{" last" * last}'))

    return loop.Hook(every, call, when_stopped)

  class Batches(Iterator):
    def __next__(self):
      events.append('batch')
      return {}

  def step(state, batch):
    events.append(f'step {int(state.step) + 1}')
    return state.replace(step=state.step + 1), int(state.step) + 1

  def read(number, metrics):
    assert metrics == number
    events.append(f'read {number}')
    return False

  hooks = [hook('a', 2), hook('b', 0)]
  state = loop.run(zeros(), Batches(), step, read, hooks, steps=4, clock=clock)
  assert int(state.step) == 4
  assert events == [
    'a 0', 'batch', 'a 0 complete', 'step 1',
    'batch', 'step 2', 'read 1',  # while step 2 runs
    'read 2', 'a 2', 'batch', 'a 2 complete', 'step 3',
    'batch', 'step 4', 'read 3',
    'read 4', 'a 4', 'b 4', 'a 4 complete last', 'b 4 complete last',
  ]  # fmt: skip


def test_a_run_that_is_stopped_calls_the_hooks_of_a_stop_alone():
  called = []
  hooks = [
    loop.Hook(1, lambda step, state: called.append(('evaluate', step))),
    loop.Hook(3, lambda step, state: called.append(('save', step)), when_stopped=True),
  ]
  step = lambda state, batch: (state.replace(step=state.step + 1), {})
  read = lambda number, metrics: number == 2
  state = loop.run(zeros(), Examples(), step, read, hooks, steps=6, clock=Clock())
  assert int(state.step) == 2
  assert called == [('evaluate', 0), ('save', 0), ('evaluate', 1), ('save', 2)]


def test_every_hook_is_timed_as_its_own_phase(monkeypatch, tmp_path):
  now = [0.0]
  monkeypatch.setattr('training.phases.time.monotonic', lambda: now[0])
  clock, metrics, average = Clock(since=0.0), Metrics(tmp_path), lambda state: state.ema

  def takes(seconds, result=None):
    def act(*args):
      now[0] += seconds
      return result

    return act

  monkeypatch.setattr(checkpoint, 'save', takes(8))
  monkeypatch.setattr(checkpoint, 'finish', takes(16))
  with contextlib.closing(checkpoint.manager(tmp_path)) as checkpoints:
    all_hooks = [
      hooks.evaluation(1, takes(1, {'loss': 0.0}), average, metrics, clock, {}),
      hooks.sampling(1, takes(2), average, clock),
      hooks.scoring(1, takes(4, {}), average, metrics, clock),
      hooks.saving(1, checkpoints, Examples(), 0, metrics, clock, {}, stop_if_failed=False),
    ]
    unfinished = [finish for hook in all_hooks if (finish := hook.call(1, zeros()))]
    assert [finish(True) for finish in unfinished] == [False]
  seconds = {'evaluate': 1, 'sample': 2, 'score': 4, 'save': 24}
  assert clock.account() == dict.fromkeys(PHASES, 0.0) | seconds
