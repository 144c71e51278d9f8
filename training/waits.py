"""Whether steps wait for data, and what is done about it."""

from collections.abc import Callable

from training.monitor import log
from training.phases import Clock

SHARE = 0.05  # of the time of steps and waits; longer waits are reported


def make_report(data, clock: Clock) -> Callable[[], float]:
  """Returns `report() -> share`: of the time since it was called before, devices waited that share.

  data: batches of `data.pipeline`.  If the share is above `SHARE`, they are read by more processes,
    if that is possible, and a line is logged; a line that asks the user to do something is logged
    once.  Times that include the start of processes are not judged.
  """
  seconds = lambda: (clock.seconds.get('data', 0.0), clock.seconds.get('step', 0.0))
  before, judges, asked = seconds(), False, False

  def report() -> float:
    nonlocal before, judges, asked
    after = seconds()
    waited, stepped = (now - then for now, then in zip(after, before))
    before, share = after, waited / max(waited + stepped, 1e-9)
    if not judges or share <= SHARE:
      judges = True
      return share
    head = f'Steps waited for data during {share:.0%} of the time'
    if workers := data.add_workers():
      log(f'{head}: {workers} processes read it from now on.')
      judges = False
    elif not asked:
      more = (
        'All cores that this process may use read it already; more of them may help'
        if data.adds_workers
        else 'More processes may help: --config.loader.workers=-1 starts as many as steps need, up '
        'to one for each core'
      )
      log(f'{head}.  {more}.  So do smaller clips: data.builder --store_side.')
      asked = True
    return share

  return report
