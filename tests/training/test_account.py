import json
import time

import pytest

from training import account
from training.phases import PHASES, Clock


def line(number, **seconds):
  times = dict.fromkeys(PHASES, 0.0) | seconds
  return {'step': number} | {account.SECONDS + phase: value for phase, value in times.items()}


def written(path, *lines):
  path.write_text(''.join(json.dumps(x) + '\n' for x in lines) + '{"step": 3, "los')
  return path


def test_all_seconds_since_the_first_start_are_on_one_row(tmp_path):
  path = written(
    tmp_path / 'metrics.jsonl',
    {'step': 0, account.STARTED: 1000.0},
    line(10, start=5.0, step=10.0),
    line(20, start=5.0, step=20.0, save=2.0),  # killed here, the last checkpoint being of step 16
    {'step': 16, account.STARTED: 1060.0},
    line(26, start=6.0, step=11.0, data=1.0),
  )
  starts = account.starts(path)
  assert [(s.step, s.last) for s in starts] == [(0, 20), (16, 26)]
  rows = account.account(starts, now=1080.0)
  assert rows['steps'] == pytest.approx(20 + 11 - 4)  # four of them for nothing
  assert rows[account.LOST] == pytest.approx(4)
  assert rows['start-up'] == 11
  assert rows[account.DOWN] == pytest.approx(80 - (5 + 20 + 2) - (6 + 11 + 1))
  assert sum(rows.values()) == pytest.approx(80)
  assert account.goodput(rows) == pytest.approx(27 / 80)
  table = account.table(rows)
  assert 'lost steps            4.0 s    5.0%' in table
  assert table.splitlines()[-1].split() == ['goodput', '33.8%']


def test_a_phase_that_an_earlier_version_did_not_time_took_no_time(tmp_path):
  old = line(10, step=10.0)
  del old[account.SECONDS + 'score']
  path = written(tmp_path / 'metrics.jsonl', {'step': 0, account.STARTED: 1000.0}, old)
  (start,) = account.starts(path)
  assert start.seconds['score'] == 0.0
  assert start.seconds['step'] == 10.0


def test_a_run_without_metrics_has_no_starts(tmp_path):
  assert account.starts(tmp_path / 'metrics.jsonl') == []


def test_a_start_is_recorded_and_its_account_goes_on_from_those_before(tmp_path):
  written(
    tmp_path / 'metrics.jsonl',
    {'step': 0, account.STARTED: time.time() - 40},
    line(20, step=20.0),
  )
  written_metrics = []
  clock = Clock(since=time.monotonic() - 10)  # ten seconds of start-up
  write = lambda step, metrics: written_metrics.append((step, metrics))
  so_far = account.open_account(tmp_path, 20, clock, write)
  ((step, metrics),) = written_metrics
  assert step == 20
  assert metrics[account.STARTED] == pytest.approx(time.time() - 10, abs=1)
  metrics = so_far()
  assert metrics[account.SECONDS + 'start'] == pytest.approx(10, abs=1)
  assert metrics['goodput'] == pytest.approx(20 / 40, abs=0.02)
