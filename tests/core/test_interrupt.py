import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from core import command, interrupt

# A command that prints when it is busy: in Python, or in C, where Python runs no signal handler.
COMMAND = """
import hashlib, pathlib, sys, time
from core import command
def main():
  try:
    print('busy', flush=True)
    {busy}
  finally:
    {last}
    pathlib.Path(sys.argv[0]).with_suffix('.closed').touch()
command.run(main)
"""
IN_PYTHON = 'time.sleep(60)'
IN_C = "hashlib.pbkdf2_hmac('sha256', b'', b'', 100_000_000)"


@pytest.fixture
def start(tmp_path):
  """Starts the command; returns its process, once it is busy."""
  started = []

  def start(busy, last='pass'):
    path = tmp_path / 'busy.py'
    path.write_text(COMMAND.format(busy=busy, last=last))
    process = subprocess.Popen(
      [sys.executable, path], cwd=command.ROOT, env=os.environ | {'PYTHONPATH': str(command.ROOT)},
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    started.append(process)
    assert process.stdout.readline() == 'busy\n'
    time.sleep(0.3)  # until it is inside the call
    return process

  yield start
  for process in started:
    process.kill()
    process.communicate()


def test_ctrl_c_ends_a_command_in_one_line_after_it_has_closed_what_it_has(start, tmp_path):
  process = start(IN_PYTHON)
  process.send_signal(signal.SIGINT)
  _, err = process.communicate(timeout=20)
  assert (process.returncode, err) == (130, 'error: interrupted.\n')
  assert (tmp_path / 'busy.closed').exists()


def test_ctrl_c_leaves_the_interpreter_no_time_to_crash(start):
  """As it happens with threads of XLA that continue during the exit."""
  process = start(f'import atexit, os; atexit.register(os._exit, 139); print("said"); {IN_PYTHON}')
  process.send_signal(signal.SIGINT)
  assert process.wait(timeout=20) == 130
  # Not by `communicate`, which loses what `readline` has buffered.
  assert (process.stdout.read(), process.stderr.read()) == ('said\n', 'error: interrupted.\n')


@pytest.mark.parametrize(('busy', 'last'), [(IN_C, 'pass'), (IN_PYTHON, IN_C)])
def test_a_second_one_ends_it_at_once(start, tmp_path, busy, last):
  process = start(busy, last)
  began = time.monotonic()
  process.send_signal(signal.SIGINT)
  time.sleep(0.3)
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=10)
  assert process.returncode == 130
  assert time.monotonic() - began < 10
  assert not (tmp_path / 'busy.closed').exists()


def test_signals_are_acted_on_in_another_thread_and_all_is_as_before():
  got, before = [], signal.signal(signal.SIGUSR2, lambda number, frame: None)
  try:
    with interrupt.acting_on(
      {signal.SIGUSR2}, lambda n: got.append((n, threading.current_thread()))
    ):
      os.kill(os.getpid(), signal.SIGUSR2)
      for _ in range(100):
        time.sleep(0.01)
        if got:
          break
    ((number, thread),) = got
    assert number == signal.SIGUSR2
    assert thread is not threading.main_thread()
    assert not thread.is_alive()
    assert signal.set_wakeup_fd(-1) == -1
  finally:
    signal.signal(signal.SIGUSR2, before)


def test_ctrl_c_does_not_reach_what_is_started_for_this_process_alone():
  with interrupt.not_for_children():
    child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
  other = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
  try:
    for process in (child, other):
      process.send_signal(signal.SIGINT)
    assert other.wait(timeout=20) == -signal.SIGINT
    assert child.poll() is None
    child.communicate(b'\n', timeout=20)
    assert child.returncode == 0
  finally:
    child.kill()
    other.stdin.close()


@pytest.mark.parametrize('name', ['train', 'data.builder'])
def test_ctrl_c_is_one_line_while_a_command_is_still_imported(name):
  """Python prints the modules that it imports: those of JAX come seconds before the last."""
  argv = ['-m', name] if '.' in name else [f'{name}.py']
  process = subprocess.Popen(
    [sys.executable, '-X', 'importtime', *argv],
    cwd=command.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  try:
    while 'core.early' not in process.stderr.readline():
      assert process.poll() is None
    process.send_signal(signal.SIGINT)
    lines = [x for x in process.communicate(timeout=60)[1].splitlines() if 'import time:' not in x]
  finally:
    process.kill()
  assert (process.returncode, lines) == (130, ['error: interrupted.'])
