"""The loop with a step that adds one, and checkpoints that are real."""

import contextlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.states import Data
from training import checkpoint, loop, resume
from training.phases import Clock
from training.state import State

CONFIG = {
  'steps': 6, 'log_every': 1, 'save_every': 2, 'evaluate_every': 0, 'sample_every': 0,
  'score_every': 0, 'stop_on_failed_save': False, 'loader': {'batch': 1}, 'data': {'frames': 1},
  'guard': {'abort_after': 3},
}  # fmt: skip


class Examples(Data):
  """Empty batches."""

  def __init__(self):
    super().__init__(0)
    self.counts = {}

  def __next__(self):
    super().__next__()
    return {}


def step(state, frozen, batch, stop):
  metrics = {'loss': 1.0, 'grad_norm': 1.0, 'in_a_row': 0, 'skipped': 0, 'stop': stop}
  params = {'x': state.params['x'] + 1}
  state = state.replace(step=state.step + 1, params=params, ema=params)
  return state, {name: np.asarray(value) for name, value in metrics.items()}


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Runs the loop where saves of some steps fail; returns the step it comes to."""

  def nothing(params, step):
    return {}

  def run(fails=(), stopped=lambda: '', sample=nothing, score=nothing, **changes):
    wait, last = checkpoint.finish, []

    def save(checkpoints, state, *args, act=checkpoint.save):
      last[:] = [int(state.step)]
      if (last[0], 'save') in fails:
        raise OSError('A checkpoint could not be saved: No space left on device')
      act(checkpoints, state, *args)

    def finish(checkpoints):
      wait(checkpoints)
      if (last[0], 'finish') in fails:
        raise OSError('A checkpoint could not be saved: No space left on device')

    with monkeypatch.context() as patch:
      patch.setattr(checkpoint, 'save', save)
      patch.setattr(checkpoint, 'finish', finish)
      zero = {'x': jnp.zeros(())}
      with contextlib.closing(checkpoint.manager(tmp_path)) as checkpoints:
        state = loop.run(
          ConfigDict(CONFIG | changes), tmp_path, State(jnp.int32(0), zero, zero, {}, {}), {},
          Examples(), checkpoints, clock=Clock(), stopped=stopped, step_flops=0.0, step=step,
          evaluate=lambda params: {'loss_of_x': 0.5}, sample=sample, score=score,
        )  # fmt: skip
    return int(state.step)

  return run


def records(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [line['step'] for line in map(json.loads, lines) if 'saved' in line]


def test_what_is_saved_is_on_record(run, tmp_path):
  assert run() == 6
  assert checkpoint.steps(tmp_path) == [6, 4, 2]
  assert records(tmp_path) == [2, 4, 6]


@pytest.mark.parametrize('when', ['save', 'finish'])
def test_a_save_that_failed_is_told_of_and_the_run_goes_on(run, tmp_path, capsys, when):
  assert run({(2, when), (4, when)}) == 6
  said = capsys.readouterr().err
  assert said.count('No space left on device  The run goes on; the next checkpoint may do.') == 2
  assert records(tmp_path) == [6]


@pytest.mark.parametrize('what', ['sample', 'score'])
def test_what_cannot_be_written_beside_is_told_of_and_the_run_goes_on(run, tmp_path, capsys, what):
  def full(params, step):
    raise OSError('Cannot write 0.png: No space left on device.')

  assert run(**{what: full, f'{what}_every': 3}) == 6
  said = capsys.readouterr().err
  for step in (3, 6):
    assert (
      f'Cannot write 0.png: No space left on device.  {what.title()}s of step {step} are' in said
    )
  assert records(tmp_path) == [2, 4, 6]


@pytest.mark.parametrize('when', ['save', 'finish'])
def test_the_last_one_that_failed_is_told_of_and_nothing_goes_on(run, tmp_path, capsys, when):
  assert run({(6, when)}) == 6
  said = capsys.readouterr().err
  assert said.count('A checkpoint could not be saved: No space left on device') == 1
  assert 'The run goes on' not in said
  assert records(tmp_path) == [2, 4]


def test_so_is_the_one_of_a_stop(run, tmp_path, capsys):
  told = iter(['', '', 'SIGTERM'])
  assert run({(4, 'save')}, stopped=lambda: next(told, 'SIGTERM')) == 4
  assert 'The run goes on' not in capsys.readouterr().err
  assert checkpoint.steps(tmp_path) == [2]


def test_a_run_may_end_with_the_first_that_failed(run, tmp_path, capsys):
  assert run({(4, 'finish')}, stop_on_failed_save=True) == 4
  assert 'The run goes on' not in capsys.readouterr().err
  assert records(tmp_path) == [2]


def test_a_run_whose_checkpoints_are_removed_is_refused(run, tmp_path):
  run()
  (tmp_path / 'checkpoints').rename(tmp_path / 'elsewhere')
  with pytest.raises(ValueError, match='has saved step 6, and'):
    resume.require_checkpoints(tmp_path)
