"""A limit on the time of a call that may hang in C, where Python cannot interrupt it."""

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from core.errors import UserError

Result = TypeVar('Result')

# The thread in which each thread makes its calls.  With a new one for each call, decoding would
# take a third longer, because its memory would always be new.
_own = threading.local()


def within(seconds: float, call: Callable[[], Result]) -> Result:
  """`call()`, made in another thread; UserError if it takes longer.

  A call that takes longer goes on, since nothing can end it but the end of the process.
  """
  if not hasattr(_own, 'pool'):
    _own.pool = ThreadPool(1)  # whose thread does not keep the process from ending
  try:
    return _own.pool.apply_async(call).get(seconds)
  except multiprocessing.TimeoutError:
    del _own.pool
    raise UserError(f'takes more than {seconds:g} s') from None
