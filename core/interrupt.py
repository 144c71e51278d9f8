"""Signals that are acted on at once, and how a process ends at once."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from multiprocessing import resource_tracker

import psutil

STATUS = 130  # what shells say of a command that Ctrl-C has ended: 128 and the number of SIGINT


def is_behind(error: BaseException | None) -> bool:
  """Whether an error is Ctrl-C, or was raised while that was acted on, as by what closes files."""
  while error is not None and not isinstance(error, KeyboardInterrupt):
    error = error.__cause__ or error.__context__
  return error is not None


def end_process(status: int) -> None:
  """Ends this process and its children at once.

  An ordinary end would wait for a thread that hangs, or for another process that is gone.
  """
  for child in psutil.Process().children(recursive=True):
    with contextlib.suppress(psutil.NoSuchProcess):
      child.kill()
  os._exit(status)


@contextlib.contextmanager
def acted_on(numbers: Collection[int], act: Callable[[int], None]) -> Iterator[None]:
  """Calls `act(number)`, in another thread, when the process gets one of these signals.

  A handler of Python has to wait until the main thread is back from what it called, and XLA may
  compile for an hour.  Each of the signals needs such a handler nevertheless.  To be called in the
  main thread.
  """
  reader, writer = socket.socketpair()
  writer.setblocking(False)

  def listen():
    while (got := reader.recv(1)) != b'\0':
      if got[0] in numbers:
        act(got[0])

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
  """Lets the first Ctrl-C be a KeyboardInterrupt, and a second one end the process at once."""
  came = []

  def act(number):
    came.append(number)
    if len(came) > 1:
      end_process(STATUS)

  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with acted_on({signal.SIGINT}, act):
      yield
  finally:
    signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def not_for_children() -> Iterator[None]:
  """Keeps Ctrl-C, which a terminal sends to all processes of a command, from those started here.

  This process gets it afterwards.
  """
  resource_tracker.ensure_running()  # which would let it through again, where it had to start
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
