import json
import struct

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from training.monitor import monitor


def lines(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def scalars(workdir):
  """(tag, step, value) of all events, read by the format of TFRecord files."""
  for path in sorted((workdir / 'tensorboard').iterdir()):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack('<Q', data[:8])
      event = event_pb2.Event.FromString(data[12 : 12 + length])  # between two checksums
      data = data[16 + length :]
      for value in event.summary.value:
        yield value.tag, event.step, value.simple_value


def test_what_is_told_is_in_both_files(tmp_path):
  with monitor(tmp_path, start=0, steps=10, frames=64) as tell:
    tell(3, {'evaluation_loss': 0.25})
    tell(4, {'loss': 0.5, 'grad_norm': 2.0}, advance=True)
  first, second = lines(tmp_path)
  assert first == {'step': 3, 'evaluation_loss': 0.25}
  assert second['frames_per_s'] == pytest.approx(64 * second['steps_per_s'])
  assert second['steps_per_s'] > 0
  want = [(name, line['step'], value) for line in (first, second) for name, value in line.items()]
  want = [(tag, step, np.float32(value)) for tag, step, value in want if tag != 'step']
  assert list(scalars(tmp_path)) == want


def test_the_rate_is_of_the_steps_since_the_last(tmp_path, monkeypatch):
  clock = iter([100.0, 104.0, 105.0])  # begin, and each time the bar moves
  monkeypatch.setattr('training.monitor.time.perf_counter', lambda: next(clock))
  with monitor(tmp_path, start=20, steps=50, frames=3) as tell:
    tell(30, {'loss': 1.0}, advance=True)
    tell(40, {'loss': 1.0}, advance=True)
  assert [line['steps_per_s'] for line in lines(tmp_path)] == [2.5, 10]
  assert [line['frames_per_s'] for line in lines(tmp_path)] == [7.5, 30]


def test_a_resumed_run_appends(tmp_path):
  for step in (1, 2):
    with monitor(tmp_path, start=0, steps=2, frames=1) as tell:
      tell(step, {'x': float(step)})
      assert lines(tmp_path)[-1] == {'step': step, 'x': step}  # before the end, should it be killed
  assert [line['step'] for line in lines(tmp_path)] == [1, 2]


@pytest.mark.parametrize('torn', [b'{"step": 2, "lo', b'{"step": 2, "x": 2.0}', b'\xff\xfe'])
def test_a_line_that_was_cut_short_does_not_take_the_next_one_with_it(tmp_path, torn):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(b'{"step": 1}\n' + torn)
  with monitor(tmp_path, start=0, steps=4, frames=1) as tell:
    tell(3, {'x': 3.0})
    tell(4, {'x': 4.0})
  assert path.read_bytes().split(b'\n') == [
    b'{"step": 1}', torn, b'{"step": 3, "x": 3.0}', b'{"step": 4, "x": 4.0}', b''
  ]  # fmt: skip


def test_the_bar_shows_the_loss_and_the_rate(tmp_path, capsys):
  with monitor(tmp_path, start=0, steps=4, frames=1) as tell:
    tell(4, {'loss': 0.12345}, advance=True)
  assert 'loss 0.1235' in (bar := capsys.readouterr().err)
  assert '4/4' in bar


def test_only_the_first_process_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  with monitor(tmp_path, start=0, steps=1, frames=1) as tell:
    tell(1, {'loss': 1.0}, advance=True)
  assert list(tmp_path.iterdir()) == []


def test_a_step_of_known_cost_has_a_speed(tmp_path, monkeypatch):
  clock = iter([100.0, 105.0])
  monkeypatch.setattr('training.monitor.time.perf_counter', lambda: next(clock))
  monkeypatch.setattr('training.flops.peak', lambda kind: 1e12)
  with monitor(tmp_path, start=0, steps=10, frames=1, step_flops=2e12) as tell:
    tell(10, {'loss': 1.0}, advance=True)
  (line,) = lines(tmp_path)
  assert line['tflops_per_s'] == pytest.approx(4.0)
  assert line['mfu'] == pytest.approx(4.0 / jax.device_count())
  assert 0.01 < line['host_gib'] < 100


def test_what_is_not_a_number_is_null(tmp_path):
  with monitor(tmp_path, start=0, steps=1, frames=1) as tell:
    tell(1, {'loss': float('nan'), 'grad_norm': float('inf'), 'x': 1.0}, advance=False)
  assert lines(tmp_path) == [{'step': 1, 'loss': None, 'grad_norm': None, 'x': 1.0}]


def test_a_run_goes_on_where_nothing_can_be_written(tmp_path, capsys):
  (tmp_path / 'metrics.jsonl').mkdir()
  with monitor(tmp_path, start=0, steps=2, frames=1) as tell:
    tell(1, {'x': 1.0})
    tell(2, {'x': 1.0})
  assert capsys.readouterr().err.count('cannot be written: ') == 1
