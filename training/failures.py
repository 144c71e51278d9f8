"""If one of many processes fails, it says why, and all of them end."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
from jax._src import distributed  # the store that processes share has no public name in JAX

from core.interrupt import end_process, is_behind

GRACE = 20  # seconds for which process 0 waits, after a failure, for the others to end
POLL = 0.5  # seconds between two checks whether another process has failed
FAILED = 'lumiere/failed'  # the key under which the first process that fails writes why


@contextlib.contextmanager
def ending_together(report: Callable[[BaseException], int]) -> Iterator[None]:
  """A context in which an error of one process ends all processes, with the same exit status.

  report: prints the error, and returns the exit status.

  The other processes print in one line which process failed and why.  Otherwise they would wait for
  it in a collective, and it would wait for them in the barrier of JAX's shutdown.
  """
  if jax.process_count() == 1:
    yield
    return
  done = threading.Event()
  thread = threading.Thread(target=_end_with_others, args=(done,), name='failures', daemon=True)
  thread.start()
  try:
    yield
  except BaseException as error:
    done.set()
    thread.join()
    status = report(error)
    if status:
      reason = ' '.join(f'{type(error).__name__}: {error}'.split())
      end_all(status, 'it was interrupted' if is_behind(error) else reason)
    raise
  finally:
    done.set()
    thread.join()


def end_all(status: int, reason: str = '') -> None:
  """Ends this process with the status at once, and lets the others do the same."""
  if client := distributed.global_state.client:
    failure = {'process': jax.process_index(), 'status': status, 'reason': reason}
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another process failed first, or ended
      client.key_value_set(FAILED, json.dumps(failure))
    _leave(client)
  end_process(status)


def _end_with_others(done: threading.Event) -> None:
  client = distributed.global_state.client
  while not done.wait(POLL):
    if value := _value(client, FAILED):
      failure = json.loads(value)
      print(
        f'error: process {failure["process"]} failed: {failure["reason"]}',
        file=sys.stderr,
        flush=True,
      )
      _leave(client)
      end_process(failure['status'])


def _leave(client) -> None:
  """Announces that this process ends.  Process 0 waits until the others have announced it too.

  Without process 0, which is the coordinator, they would only print that the coordinator is gone.
  """
  left = 'lumiere/left/{}'.format
  with contextlib.suppress(jax.errors.JaxRuntimeError):
    client.key_value_set(left(jax.process_index()), 'yes')
  if jax.process_index() == 0:
    until = time.monotonic() + GRACE
    others = set(range(1, jax.process_count()))
    while others and time.monotonic() < until:
      others = {i for i in others if not _value(client, left(i))}
      time.sleep(POLL / 5)


def _value(client, key: str) -> str | None:
  """The value that a process has set for the key, None if none has."""
  try:
    return client.key_value_try_get(key)
  except jax.errors.JaxRuntimeError:  # the key is not set
    return None
