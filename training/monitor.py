"""What a run tells: a progress bar, `metrics.jsonl` and TensorBoard events."""

import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

Metrics = Mapping[str, float | jax.Array]


@contextlib.contextmanager
def monitor(
  workdir: pathlib.Path, *, start: int, steps: int, frames: int
) -> Iterator[Callable[..., None]]:
  """Yields `tell(step, metrics, advance=False)`; `frames` is how many a step trains on.

  With `advance` the progress bar moves to the step, and the rates since the last such call join the
  metrics: `steps_per_s` and `frames_per_s`.  Only the first process writes.
  """
  if jax.process_index() > 0:
    yield lambda *args, **kwargs: None
    return
  with contextlib.ExitStack() as stack:
    log = stack.enter_context((workdir / 'metrics.jsonl').open('a', buffering=1))
    events = stack.enter_context(contextlib.closing(SummaryWriter(str(workdir / 'tensorboard'))))
    bar = stack.enter_context(
      tqdm(initial=start, total=steps, unit='step', file=sys.stderr, dynamic_ncols=True)
    )
    last = [start, time.perf_counter()]

    def tell(step: int, metrics: Metrics, advance: bool = False) -> None:
      metrics = {name: float(value) for name, value in metrics.items()}
      if advance:
        now = time.perf_counter()
        rate = (step - last[0]) / (now - last[1])
        last[:] = step, now
        metrics |= {'steps_per_s': rate, 'frames_per_s': rate * frames}
        bar.set_postfix_str(f'loss {metrics["loss"]:.4f}, {rate * frames:.0f} frames/s')
        bar.update(step - bar.n)
      log.write(json.dumps({'step': step, **metrics}) + '\n')
      for name, value in metrics.items():
        events.add_scalar(name, value, step)

    yield tell
