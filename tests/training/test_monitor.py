"""The progress bar and the rates that it measures."""

import jax

from training.monitor import log, progress_bar


def test_the_rates_are_of_the_steps_since_the_last(monkeypatch):
  clock = iter([100.0, 104.0, 105.0])  # at the start, and each time the bar moves
  monkeypatch.setattr('training.monitor.time.perf_counter', lambda: next(clock))
  with progress_bar(start=20, steps=50, frames=3) as advance:
    rates = [advance(30, 1.0), advance(40, 1.0)]
  assert [r['steps_per_s'] for r in rates] == [2.5, 10]
  assert [r['frames_per_s'] for r in rates] == [7.5, 30]
  assert all(0.01 < r['host_gib'] < 100 for r in rates)
  assert not any('tflops_per_s' in r for r in rates)


def test_the_bar_shows_the_loss_and_messages_are_lines_above_it(capsys):
  with progress_bar(start=0, steps=4, frames=1) as advance:
    advance(4, 0.12345)
    log('a message')
  text = capsys.readouterr().err
  assert 'loss 0.1235' in text
  assert '4/4' in text
  assert 'a message\n' in text


def test_only_the_first_process_has_a_bar(monkeypatch, capsys):
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  with progress_bar(start=0, steps=1, frames=1) as advance:
    assert advance(1, 1.0) == {}
    log('a message')
  assert capsys.readouterr().err == ''


def test_a_step_of_known_cost_has_a_speed(monkeypatch):
  clock = iter([100.0, 105.0])
  monkeypatch.setattr('training.monitor.time.perf_counter', lambda: next(clock))
  monkeypatch.setattr('training.flops.peak', lambda kind: 1e12)
  with progress_bar(start=0, steps=10, frames=1, step_flops=2e12) as advance:
    rates = advance(10, 1.0)
  assert rates['tflops_per_s'] == 4.0
  assert rates['mfu'] == 4.0 / jax.device_count()
