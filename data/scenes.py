"""Where a video is cut from one scene to another, from its trace.

At a cut, a frame differs much more from the one before than frames around it do.  Fades, and cuts
between pictures that hardly differ, are not detected; a flash, after which the scene goes on, is no
cut.  `benchmarks/scene_cuts.py` measures how often cuts are detected, and docs/data.md has the
result.
"""

import numpy as np
from jaxtyping import Float

from data.trace import Trace

THRESHOLD = 3.0
FLOOR = (
  4.0  # levels: what cells change by in a scene with little motion, from compression and light
)
AROUND = 2  # frames before and after


def cuts(trace: Trace, threshold: float = THRESHOLD) -> list[float]:
  """The times in seconds at which a new scene begins, in ascending order.

  threshold: a smaller one detects more cuts; see `contrast`.
  """
  return trace.times[contrast(trace.differences) >= threshold].tolist()


def contrast(differences: Float[np.ndarray, ' n']) -> Float[np.ndarray, ' n']:
  """Each frame's difference to the one before, over `FLOOR` plus the mean of those around it.

  The first frame, which has no difference, counts for none and has 0.
  """
  count = len(differences)
  result = np.zeros(count)
  for i in range(1, count):
    nearby = [j for j in range(i - AROUND, i + AROUND + 1) if j != i and 0 < j < count]
    result[i] = differences[i] / (FLOOR + (differences[nearby].mean() if nearby else 0.0))
  return result
