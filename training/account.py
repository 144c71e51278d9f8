"""Where the time of a run went, from its first start until now, over all its starts.

Goodput is the share of that time that was spent in steps which count.  It is computed from
`metrics.jsonl` alone: every start writes a line before its first step, and the lines after it hold
the seconds of each phase so far.
"""

import dataclasses
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Mapping

from training.phases import PHASES, Clock

# Keys in metrics.jsonl: the time of a start, the seconds of each phase, and a complete checkpoint.
STARTED, SECONDS, SAVED = 'started', 'seconds/', 'saved'

LOST, DOWN = 'lost steps', 'not running'


@dataclasses.dataclass
class Start:
  """One start of a run."""

  started: float  # when, by time.time
  step: int  # the step it started from
  last: int  # the last step it is known to have reached
  seconds: dict[str, float]  # by phase


def open_account(
  workdir: pathlib.Path, step: int, clock: Clock, write: Callable[[int, dict], None]
) -> Callable[[], dict[str, float]]:
  """Records that the run starts at this step; returns a function that returns its account so far.

  The account holds metrics: the seconds of each phase of this start, and the goodput of all starts.
  """
  before = starts(workdir / 'metrics.jsonl')
  started = time.time() - sum(clock.account().values())
  write(step, {STARTED: started})

  def so_far() -> dict[str, float]:
    seconds = clock.account()
    rows = account([*before, Start(started, step, step, seconds)], time.time())
    return {'goodput': goodput(rows)} | {SECONDS + phase: s for phase, s in seconds.items()}

  return so_far


def starts(path: pathlib.Path) -> list[Start]:
  """Every start of the run with these metrics; lines that were cut short by a kill are skipped."""
  result = []
  for metrics in _lines(path):
    if STARTED in metrics:
      result.append(Start(metrics[STARTED], metrics['step'], metrics['step'], {}))
    if result and SECONDS + 'step' in metrics:
      result[-1].last = max(result[-1].last, metrics['step'])
      # Earlier versions did not time every phase of today.
      result[-1].seconds = {phase: metrics.get(SECONDS + phase, 0.0) for phase in PHASES}
  return result


def last_saved(path: pathlib.Path) -> int:
  """The step of the last checkpoint of the run with these metrics; 0 where it has saved none."""
  steps = [m['step'] for m in _lines(path) if SAVED in m or STARTED in m]
  return steps[-1] if steps else 0


def _lines(path: pathlib.Path) -> list[dict]:
  text = path.read_text(errors='replace') if path.exists() else ''
  return [_read(line) for line in text.splitlines()]


def _read(line: str) -> dict:
  try:
    metrics = json.loads(line)
  except json.JSONDecodeError:
    return {}
  return metrics if isinstance(metrics, dict) and 'step' in metrics else {}


def account(starts: list[Start], now: float) -> dict[str, float]:
  """The seconds by row; together they are all the time from the first start until `now`.

  Steps after the checkpoint from which the next start resumed are lost, and each of them counts as
  the mean time of a step.
  """
  rows = {name: sum(s.seconds.get(phase, 0.0) for s in starts) for phase, name in PHASES.items()}
  lost = 0.0
  for before, after in itertools.pairwise(starts):
    trained = before.last - before.step
    repeated = min(max(before.last - after.step, 0), trained)
    lost += before.seconds.get('step', 0.0) * repeated / max(trained, 1)
  rows[PHASES['step']] -= lost
  rows[LOST] = lost
  rows[DOWN] = max(now - starts[0].started - sum(rows.values()), 0.0)
  return rows


def goodput(rows: Mapping[str, float]) -> float:
  """The share of the time that went into steps which count."""
  return rows[PHASES['step']] / max(sum(rows.values()), 1e-9)


def table(rows: Mapping[str, float]) -> str:
  """The rows as text to read."""
  total = max(sum(rows.values()), 1e-9)
  lines = [f'{name:12} {value:12.1f} s {value / total:7.1%}' for name, value in rows.items()]
  return '\n'.join([*lines, f'{"goodput":12} {"":12}   {goodput(rows):7.1%}'])
