"""Real processes, of which one fails."""

import socket
import subprocess
import sys
import time

import jax
import pytest

from core import command
from training import failures

# One fails while the other waits for it in a collective.
PROGRAM = """
import sys
from jax.experimental import multihost_utils
from core import command
from core.errors import UserError
from training import failures, processes

here, failing, defect = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
processes.join(sys.argv[4], 2, here)
with failures.ending_together(command.report):
  if here == failing:
    kind = {'UserError': UserError, 'RuntimeError': RuntimeError}[defect]
    raise kind(f'It is of no use in process {here}.')
  multihost_utils.sync_global_devices('never')
"""


@pytest.mark.parametrize(
  ('failing', 'defect', 'status'), [(0, 'UserError', 2), (1, 'RuntimeError', 1)]
)
def test_where_one_fails_it_says_why_and_the_others_end_with_it(failing, defect, status):
  with socket.socket() as one:
    one.bind(('localhost', 0))
    where = f'localhost:{one.getsockname()[1]}'
  began = time.monotonic()
  started = [
    subprocess.Popen(
      [sys.executable, '-c', PROGRAM, str(here), str(failing), defect, where],
      cwd=command.ROOT,
      stderr=subprocess.PIPE,
      text=True,
    )
    for here in (0, 1)
  ]
  output = [process.communicate(timeout=120)[1] for process in started]
  assert time.monotonic() - began < 60
  assert [process.returncode for process in started] == [status, status], output
  why = f'It is of no use in process {failing}.'
  assert why in output[failing]
  assert f'error: process {failing} failed: {defect}: {why}' in output[1 - failing]
  assert 'Barrier' not in ''.join(output)


def test_of_one_that_is_interrupted_the_others_say_so(monkeypatch):
  calls = []
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(failures, '_end_with_others', lambda done: None)
  monkeypatch.setattr(failures, 'end_all', lambda *args: calls.append(args))
  with pytest.raises(KeyboardInterrupt), failures.ending_together(command.report):
    raise KeyboardInterrupt
  assert calls == [(130, 'it was interrupted')]
