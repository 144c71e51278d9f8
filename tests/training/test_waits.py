import jax.numpy as jnp
import pytest

from training import loop, waits
from training.phases import Clock


class Workers:
  """Stands for batches: it has 1 worker, and room for `most`."""

  def __init__(self, most, adds_workers=True):
    self.count, self.most, self.adds_workers = 1, most, adds_workers

  def add_workers(self):
    if self.count == self.most:
      return 0
    self.count *= 2
    return self.count


def reports(data, shares, capsys):
  """The shares that are reported, and the lines that are logged, where each wait is of 10 s."""
  clock = Clock()
  report, results = waits.make_report(data, clock), []
  for share in shares:
    for phase, part in (('data', share), ('step', 1 - share)):
      clock.seconds[phase] = clock.seconds.get(phase, 0.0) + 10 * part
    results.append(report())
  return results, [line for line in capsys.readouterr().err.splitlines() if 'waited' in line]


def test_workers_are_added_until_steps_do_not_wait(capsys):
  data = Workers(most=8)
  shares = [0.9, 0.5, 0.4, 0.3, 0.2, 0.01, 0.04]
  results, lines = reports(data, shares, capsys)
  assert results == pytest.approx(shares)
  # The first time, and those in which processes were started, are not judged.
  assert data.count == 4
  assert [line.split('waited ')[1] for line in lines] == [
    'for data during 50% of the time: 2 processes read it from now on.',
    'for data during 30% of the time: 4 processes read it from now on.',
  ]


def test_what_the_user_can_do_is_said_once(capsys):
  for adds_workers, advice in (
    (False, 'More processes may help: --config.loader.workers=-1 starts as many as steps need'),
    (True, 'All cores that this process may use read it already; more of them may help.  So do'),
  ):
    data = Workers(most=1, adds_workers=adds_workers)
    _, lines = reports(data, [0.9, 0.5, 0.01, 0.5, 0.5], capsys)
    assert len(lines) == 1
    assert f'50% of the time.  {advice}' in lines[0]


@pytest.mark.parametrize(('ready', 'phase'), [(False, 'step'), (True, 'data')])
def test_a_wait_behind_a_step_that_still_runs_is_part_of_the_step(monkeypatch, ready, phase):
  metric, clock = jnp.zeros(()), Clock()
  monkeypatch.setattr(type(metric), 'is_ready', lambda self: ready)

  def data():
    clock.seconds['data'] = clock.seconds.get('data', 0.0) + 7.0
    yield {'batch': 1}

  assert loop._next_batch(data(), clock, {'loss': metric}) == {'batch': 1}
  assert clock.seconds[phase] >= 7.0
  assert clock.seconds.get({'step': 'data', 'data': 'step'}[phase], 0.0) == pytest.approx(0, abs=1)
  clock = Clock()
  loop._next_batch(data(), clock, {})  # no step runs
  assert clock.seconds['data'] >= 7.0
