import threading
import time

import pytest

from training import phases
from training.phases import PHASES, STALLED, watched

LIMITS = dict.fromkeys(PHASES, 0.0)


def test_every_second_is_in_one_phase(tmp_path, monkeypatch):
  now = iter([10.0, 12.0, 15.0, 15.5, 20.0, 21.0, 30.0])
  with watched(tmp_path, LIMITS) as clock:
    monkeypatch.setattr(phases.time, 'monotonic', lambda: next(now))
    clock.since = 10.0
    clock.enter('start')
    clock.enter('step')
    with clock.during('data'):
      with clock.during('save'):
        pass
    account = clock.account()
    monkeypatch.undo()
  assert account == dict.fromkeys(PHASES, 0.0) | {
    'start': 2.0,
    'step': 3.0 + 9.0,
    'data': 0.5 + 1.0,
    'save': 4.5,
  }


def test_the_time_before_the_first_phase_is_start_up(tmp_path):
  with watched(tmp_path, LIMITS, started=time.time() - 100) as clock:
    assert 100 <= clock.account()['start'] < 110


def where_it_hangs(release):
  release.wait(30)


def test_a_phase_that_takes_too_long_ends_the_process_and_says_where_it_was(tmp_path, capfd):
  release, ended = threading.Event(), []

  def end(status):
    ended.append(status)
    release.set()

  with watched(tmp_path, LIMITS | {'data': 0.3}, end=end) as clock:
    clock.last = {'step': 7, 'loss': 0.5}
    with clock.during('data'):
      where_it_hangs(release)
  assert ended == [STALLED]
  (path,) = tmp_path.glob('stalled_*_process_0.txt')
  text = path.read_text()
  assert text.startswith('data wait took longer than 0.3 s\nlast metrics: {"step": 7, "loss": 0.5}')
  assert 'where_it_hangs' in text
  assert f'(watchdog.data); the stacks of all threads are in {path}.' in capfd.readouterr().err


def test_what_is_within_its_limit_goes_on(tmp_path):
  ended = []
  with watched(tmp_path, LIMITS | {'step': 1.0}, end=ended.append) as clock:
    for _ in range(8):
      with clock.during('step'):
        time.sleep(0.3)
  assert ended == []
  assert list(tmp_path.iterdir()) == []


def test_limits_are_of_all_phases(tmp_path):
  with pytest.raises(
    ValueError, match=r'Got limits of .*, nap, .*; allowed are close, .*, step, each'
  ):
    with watched(tmp_path, LIMITS | {'nap': 1.0}):
      pass
