"""What many processes decide as one.

Each of them may see another state of a shared disk, and one that takes another way than the others
leaves them waiting for it.  Both functions are to be called in all processes together.
"""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def agreed(problem: str) -> str:
  """The problem of the first process that has one, in all of them; '' if none has."""
  if jax.process_count() == 1:
    return problem
  found = multihost_utils.process_allgather(np.array(bool(problem)))
  return _broadcast(problem, int(np.argmax(found))) if found.any() else ''


def from_first(value: Any) -> Any:
  """The value that process 0 has, in all of them; anything that JSON can say."""
  return value if jax.process_count() == 1 else _broadcast(value, 0)


def _broadcast(value: Any, source: int) -> Any:
  mine = jax.process_index() == source
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text)), mine))
  sent = text if mine else np.zeros(size, np.uint8)
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(sent, mine)).tobytes())
