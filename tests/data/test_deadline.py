import threading
import time

import pytest

from core.errors import UserError
from data.deadline import within


def name():
  return threading.current_thread().name


def test_what_is_returned_or_raised_in_time_is_what_comes():
  assert within(9.0, name) != name()
  with pytest.raises(ZeroDivisionError):
    within(9.0, lambda: 1 / 0)
  assert within(9.0, threading.get_ident) == within(9.0, threading.get_ident)


def test_a_call_that_hangs_is_an_error_and_the_next_one_is_made():
  begun, done = time.monotonic(), threading.Event()
  with pytest.raises(UserError, match=r'^takes more than 0\.1 s$'):
    within(0.1, lambda: done.wait() and 'late')
  assert time.monotonic() - begun < 5
  done.set()
  assert within(9.0, name) != name()
