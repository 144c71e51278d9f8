"""Where the time of a run went since it was first started, all its starts together.

Goodput is the part of that time which was spent in steps that count.  It follows from
`metrics.jsonl` alone: every start writes a line when it begins to step, and the lines after it hold
the seconds of each phase until then.
"""

import dataclasses
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Mapping

from training.phases import PHASES, Clock

# In lines of metrics.jsonl: the time of a start, the seconds of each phase, that a save is whole.
STARTED, SECONDS, SAVED = 'started', 'seconds/', 'saved'

LOST, DOWN = 'lost steps', 'not running'


@dataclasses.dataclass
class Start:
  """What is known of one start of a run."""

  started: float  # the time
  step: int  # where it began
  last: int  # and how far it came
  seconds: dict[str, float]  # of each phase


def begin(
  workdir: pathlib.Path, step: int, clock: Clock, tell: Callable[[int, dict], None]
) -> Callable[[], dict[str, float]]:
  """Tells that the run starts at this step; returns what gives its account so far, as metrics.

  They are the seconds of each phase of this start, and the goodput of all.
  """
  before = starts(workdir / 'metrics.jsonl')
  started = time.time() - sum(clock.account().values())
  tell(step, {STARTED: started})

  def so_far() -> dict[str, float]:
    spent = clock.account()
    rows = account([*before, Start(started, step, step, spent)], time.time())
    return {'goodput': goodput(rows)} | {SECONDS + phase: value for phase, value in spent.items()}

  return so_far


def starts(path: pathlib.Path) -> list[Start]:
  """Every start of the run whose metrics these are; a line cut short by a kill is passed over."""
  found = []
  for metrics in _lines(path):
    if STARTED in metrics:
      found.append(Start(metrics[STARTED], metrics['step'], metrics['step'], {}))
    if found and SECONDS + 'step' in metrics:
      found[-1].last = max(found[-1].last, metrics['step'])
      found[-1].seconds = {phase: metrics[SECONDS + phase] for phase in PHASES}
  return found


def last_saved(path: pathlib.Path) -> int:
  """The step of the last checkpoint of the run with these metrics; 0 where it has saved none."""
  steps = [m['step'] for m in _lines(path) if SAVED in m or STARTED in m]
  return steps[-1] if steps else 0


def _lines(path: pathlib.Path) -> list[dict]:
  text = path.read_text(errors='replace') if path.exists() else ''
  return [_read(line) for line in text.splitlines()]


def _read(line: str) -> dict:
  try:
    found = json.loads(line)
  except json.JSONDecodeError:
    return {}
  return found if isinstance(found, dict) and 'step' in found else {}


def account(starts: list[Start], now: float) -> dict[str, float]:
  """The seconds on each row, which are all there were since the first start until `now`.

  Steps after the checkpoint from which the next start went on are lost, at the mean time of a step.
  """
  rows = {name: sum(s.seconds.get(phase, 0.0) for s in starts) for phase, name in PHASES.items()}
  lost = 0.0
  for before, after in itertools.pairwise(starts):
    made = before.last - before.step
    again = min(max(before.last - after.step, 0), made)
    lost += before.seconds.get('step', 0.0) * again / max(made, 1)
  rows[PHASES['step']] -= lost
  rows[LOST] = lost
  rows[DOWN] = max(now - starts[0].started - sum(rows.values()), 0.0)
  return rows


def goodput(rows: Mapping[str, float]) -> float:
  """The part of the time that went into steps which count."""
  return rows[PHASES['step']] / max(sum(rows.values()), 1e-9)


def table(rows: Mapping[str, float]) -> str:
  """The rows, for people."""
  total = max(sum(rows.values()), 1e-9)
  lines = [f'{name:12} {value:12.1f} s {value / total:7.1%}' for name, value in rows.items()]
  return '\n'.join([*lines, f'{"goodput":12} {"":12}   {goodput(rows):7.1%}'])
