import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from core import command
from training import stops
from training.phases import PHASES, Clock
from training.stops import catching_signals

EARLY = sorted(PHASES.keys() - {'step'})


def send(number, seen):
  os.kill(os.getpid(), number)
  for _ in range(200):
    if seen():
      return
    time.sleep(0.01)
  raise AssertionError(f'{number!r} was not seen')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_remembered_and_the_handlers_come_back(number, capsys):
  before = signal.getsignal(number)
  with catching_signals() as stopped:
    assert stopped() == ''
    send(number, stopped)
    assert stopped() == number.name
  assert signal.getsignal(number) is before
  output = 'Interrupted: the run is saved after this step.  A second Ctrl-C ends it at once.\n'
  assert capsys.readouterr().err == (output if number == signal.SIGINT else '')


@pytest.mark.parametrize('phase', sorted(PHASES))
def test_a_second_ctrl_c_ends_the_process_at_once_in_any_phase(phase, capfd, monkeypatch):
  monkeypatch.setattr(stops, 'GRACE', 60.0)
  ended = []
  with catching_signals(clock := Clock('step'), ended.append) as stopped:
    send(signal.SIGINT, stopped)
    clock.phase = phase
    try:
      send(signal.SIGINT, lambda: ended)
    except KeyboardInterrupt:
      assert phase in EARLY
      time.sleep(0.2)
    assert ended == [130]
  assert 'error: interrupted at once; what was not saved is lost.' in capfd.readouterr().err


def test_between_two_steps_ctrl_c_waits_for_the_next_one(capsys):
  """A run is in its first phase wherever it is in no other."""
  clock = Clock()
  with clock.during('step'):
    pass
  assert clock.phase == 'start'
  with catching_signals(clock, lambda status: None) as stopped:
    send(signal.SIGINT, stopped)
    assert stopped() == 'SIGINT'
  assert 'Interrupted: the run is saved after this step.' in capsys.readouterr().err


def test_other_signals_change_nothing_afterwards():
  ended = []
  with catching_signals(Clock('step'), ended.append) as stopped:
    send(signal.SIGTERM, stopped)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
      os.kill(os.getpid(), number)
      time.sleep(0.05)
    assert stopped() == 'SIGTERM'
  assert ended == []


@pytest.mark.parametrize('phase', EARLY)
def test_where_there_is_nothing_to_save_ctrl_c_ends_what_is_done(phase):
  ended = []

  def wait():
    with catching_signals(Clock(phase), ended.append) as stopped:
      send(signal.SIGINT, lambda: False)
      return stopped

  with pytest.raises(KeyboardInterrupt):
    wait()
  assert ended == []


@pytest.mark.parametrize('phase', EARLY)
def test_and_the_process_where_that_does_not_end(phase, monkeypatch, capfd):
  """XLA compiles, or something swallows the exception."""
  monkeypatch.setattr(stops, 'GRACE', 0.1)
  ended = []
  with catching_signals(Clock(phase), ended.append):
    try:
      send(signal.SIGINT, lambda: ended)
    except KeyboardInterrupt:
      time.sleep(0.5)
    assert ended == [130]
  assert capfd.readouterr().err == 'error: interrupted.\n'


JOINED = """
import os, signal, time
from training import processes
from training.stops import catching_signals
with catching_signals() as stopped:
  processes.join('localhost:{port}', 1, 0)
  os.kill(os.getpid(), signal.SIGTERM)
  until = time.monotonic() + 10
  while not stopped() and time.monotonic() < until:
    time.sleep(0.05)
  print(stopped(), flush=True)
os._exit(0)
"""


def test_one_of_many_processes_gets_the_signal_too():
  """JAX has a handler of its own there."""
  with socket.socket() as one:
    one.bind(('localhost', 0))
    port = one.getsockname()[1]
  argv = [sys.executable, '-c', JOINED.format(port=port)]
  done = subprocess.run(argv, cwd=command.ROOT, capture_output=True, text=True, timeout=120)
  assert done.stdout == 'SIGTERM\n', done.stderr
