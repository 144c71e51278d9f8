"""What a run tells: a progress bar, `metrics.jsonl` and TensorBoard events."""

import contextlib
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import psutil
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar
from tqdm import tqdm

from training import flops

Metrics = Mapping[str, float | int]


@contextlib.contextmanager
def monitor(
  workdir: pathlib.Path, *, start: int, steps: int, frames: int, step_flops: float = 0.0
) -> Iterator[Callable[..., None]]:
  """Yields `tell(step, metrics, advance=False)`; `frames` is how many a step trains on.

  With `advance` the progress bar moves to the step, and the rates since the last such call join the
  metrics: `steps_per_s`, `frames_per_s` and, of a step of so many operations, `tflops_per_s` of all
  devices and, where their peak is known, `mfu`; and the memory in use, in GiB.  Only the first
  process writes.  A disk that is full is told of once; the run goes on.
  """
  if jax.process_index() > 0:
    yield lambda *args, **kwargs: None
    return
  with contextlib.ExitStack() as stack:
    record = stack.enter_context(_recorder(workdir))
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
        metrics |= _speed(rate * step_flops) | memory()
        bar.set_postfix_str(f'loss {metrics["loss"]:.4f}, {rate * frames:.0f} frames/s')
        bar.update(step - bar.n)
      record(step, metrics)

    yield tell


def say(message: str) -> None:
  """One line on stderr, above the progress bar, from the first process."""
  if jax.process_index() == 0:
    tqdm.write(message, file=sys.stderr)


def memory() -> dict[str, float]:
  """GiB in use: by this process and its workers, and on its first device, where it tells."""
  own = psutil.Process()
  used = 0
  for process in (own, *own.children(recursive=True)):
    with contextlib.suppress(psutil.NoSuchProcess):
      used += process.memory_info().rss
  device = jax.local_devices()[0].memory_stats() or {}
  names = {'bytes_in_use': 'device_gib', 'peak_bytes_in_use': 'device_peak_gib'}
  on_device = {name: device[key] / 2**30 for key, name in names.items() if key in device}
  return {'host_gib': used / 2**30} | on_device


def _speed(flops_per_s: float) -> dict[str, float]:
  if not flops_per_s:
    return {}
  peak = flops.peak(jax.devices()[0].device_kind)
  mfu = {'mfu': flops_per_s / (peak * jax.device_count())} if peak else {}
  return {'tflops_per_s': flops_per_s / 1e12} | mfu


@contextlib.contextmanager
def _recorder(workdir: pathlib.Path) -> Iterator[Callable[[int, dict], None]]:
  """Yields a function that adds metrics to both files; what is not a number is null in the one.

  Events are written in the caller's thread: that of `SummaryWriter` dies of a full disk, and then
  the run waits for it for ever.
  """
  lines, folder = workdir / 'metrics.jsonl', workdir / 'tensorboard'
  events, failed = None, False

  def record(step: int, metrics: dict) -> None:
    nonlocal events, failed
    finite = {name: v if math.isfinite(v) else None for name, v in metrics.items()}
    try:
      _append(lines, json.dumps({'step': step, **finite}))
      folder.mkdir(exist_ok=True)
      events = events or EventsWriter(str(folder / 'events'))
      for name, value in metrics.items():
        summary = scalar(name, value)
        events.write_event(event_pb2.Event(step=step, wall_time=time.time(), summary=summary))
      events.flush()
    except OSError as error:
      if not failed:
        say(f'Metrics of {workdir} cannot be written: {error}.  The run goes on.')
      failed, events = True, None

  yield record
  if events:
    events.close()


def _append(path: pathlib.Path, line: str) -> None:
  """Adds a line, on its own also where the last one was cut short by a kill or a full disk."""
  with path.open('ab+') as file:
    if file.tell():
      file.seek(-1, os.SEEK_END)
      line = line if file.read(1) == b'\n' else f'\n{line}'
    file.write(f'{line}\n'.encode())
