"""Acting on signals immediately, and ending a process immediately."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from multiprocessing import resource_tracker

import psutil

STATUS = 130  # the exit status of a command that Ctrl-C ended: 128 plus the number of SIGINT


def is_behind(error: BaseException | None) -> bool:
  """Whether an error is Ctrl-C, or was raised while Ctrl-C was handled, as by closing a file."""
  seen = set()
  while error is not None and error not in seen and not isinstance(error, KeyboardInterrupt):
    seen.add(error)
    error = error.__cause__ or error.__context__
  return isinstance(error, KeyboardInterrupt)


def end_process(status: int) -> None:
  """Ends this process and its children immediately.

  An ordinary exit would wait for threads that hang, or for other processes that are gone.
  """
  for child in psutil.Process().children(recursive=True):
    with contextlib.suppress(psutil.NoSuchProcess):
      child.kill()
  os._exit(status)


@contextlib.contextmanager
def acting_on(numbers: Collection[int], act: Callable[[int], None]) -> Iterator[None]:
  """Calls `act(number)` in another thread when the process gets one of these signals.

  Python runs its signal handlers only when the main thread is back in Python, and XLA may compile
  for an hour.  Each of the signals must have such a handler nevertheless.  To be called in the main
  thread.
  """
  reader, writer = socket.socketpair()
  writer.setblocking(False)

  def listen():
    while (received := reader.recv(1)) != b'\0':
      if received[0] in numbers:
        act(received[0])

  before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
  thread = threading.Thread(target=listen, name='signals', daemon=True)
  thread.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(before)
    writer.send(b'\0')
    thread.join()
    reader.close()
    writer.close()


@contextlib.contextmanager
def second_ends() -> Iterator[None]:
  """A context in which a first Ctrl-C is a KeyboardInterrupt, and a second one ends the process."""
  count = 0

  def act(number):
    nonlocal count
    count += 1
    if count > 1:
      end_process(STATUS)

  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with acting_on({signal.SIGINT}, act):
      yield
  finally:
    signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def not_for_children() -> Iterator[None]:
  """A context in which processes that are started never get Ctrl-C.

  A terminal sends it to all processes of a command.  This process gets it after the context.
  """
  resource_tracker.ensure_running()  # if it were started in the context, it would unblock Ctrl-C
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
