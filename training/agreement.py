"""Decisions that all processes of a run make together.

Each process may see another state of a shared disk, and if one of them takes another branch than
the others, these wait for it forever.  All processes have to call these functions together.
"""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def agreed(problem: str) -> str:
  """The problem of the first process that has one, returned in all processes; '' if none has."""
  if jax.process_count() == 1:
    return problem
  has_problem = multihost_utils.process_allgather(np.array(bool(problem)))
  return _broadcast(problem, int(np.argmax(has_problem))) if has_problem.any() else ''


def from_first(value: Any) -> Any:
  """The value of process 0, returned in all processes; it has to be serialisable as JSON."""
  return value if jax.process_count() == 1 else _broadcast(value, 0)


def _broadcast(value: Any, source: int) -> Any:
  is_source = jax.process_index() == source
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text)), is_source))
  sent = text if is_source else np.zeros(size, np.uint8)
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(sent, is_source)).tobytes())
