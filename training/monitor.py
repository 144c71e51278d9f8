"""What a run prints: messages, and a progress bar with the rates that also go into the metrics."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import jax
import psutil
from tqdm import tqdm

from training import flops


@contextlib.contextmanager
def progress_bar(
  *, start: int, steps: int, frames: int | float, step_flops: float = 0.0
) -> Iterator[Callable[[int, float], dict[str, float]]]:
  """Yields `advance(step, loss) -> rates`, which moves the bar to the step.

  The rates are means since the last call: `steps_per_s`; `frames_per_s`, where a step trains on
  `frames` of them; `tflops_per_s` of all devices together, where a step needs `step_flops`; and
  `mfu`, where the peak of the devices is known.  The memory in use, in GiB, is added to them.  Only
  the first process has a bar and returns rates.
  """
  if jax.process_index() > 0:
    yield lambda step, loss: {}
    return
  with tqdm(initial=start, total=steps, unit='step', file=sys.stderr, dynamic_ncols=True) as bar:
    last_step, last_time = start, time.perf_counter()

    def advance(step: int, loss: float) -> dict[str, float]:
      nonlocal last_step, last_time
      now = time.perf_counter()
      rate = (step - last_step) / (now - last_time)
      last_step, last_time = step, now
      bar.set_postfix_str(f'loss {loss:.4f}, {rate * frames:.0f} frames/s')
      bar.update(step - bar.n)
      rates = {'steps_per_s': rate, 'frames_per_s': rate * frames}
      return rates | _speed(rate * step_flops) | memory()

    yield advance


def log(message: str) -> None:
  """Prints one line to stderr, above the progress bar, from the first process only."""
  if jax.process_index() == 0:
    tqdm.write(message, file=sys.stderr)


def memory() -> dict[str, float]:
  """The memory in use, in GiB: of this process and its workers, and of its first device.

  Devices that do not report their memory, such as a CPU, are left out.
  """
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
