"""Measures how fast the gradient of a kernel is, as a whole and in parts of the batch.

  python -m benchmarks.kernel_gradients

The table has operations a second, each the best of several runs that alternate; `parts` is the
gradient of `stunet.convolution`.  Only ratios of one run are comparable on a shared machine.
"""

import functools
import math
import time

import jax
from absl import flags

from core import command
from stunet.convolution import convolve

LAYOUT = ('NHWC', 'HWIO', 'NHWC')
# Frames, their side, and the features of input and output: those of the demo's levels.
SHAPES = ((320, 16, 48), (320, 8, 64), (320, 4, 96))


def programs(frames: int, side: int, features: int) -> dict:
  """By name, the result of a 3x3 convolution and the gradients of its kernel, to be called."""
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (frames, side, side, features))
  kernel = jax.random.normal(keys[1], (3, 3, features, features))
  cotangent = jax.random.normal(keys[2], x.shape)
  run = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(1, 1),
    padding='SAME',
    dimension_numbers=LAYOUT,
  )
  own = lambda x, kernel: convolve(x, kernel, (1, 1), 'SAME', LAYOUT)

  def gradient(run):  # arrays that are not arguments would be computed with when it is compiled
    return jax.jit(lambda x, k, cotangent: jax.vjp(lambda k: run(x, k), k)[1](cotangent))

  return {
    'result': functools.partial(jax.jit(run), x, kernel),
    'gradient': functools.partial(gradient(run), x, kernel, cotangent),
    'parts': functools.partial(gradient(own), x, kernel, cotangent),
  }


def main() -> None:
  print('| frames | result | gradient | parts |\n| --- | --- | --- | --- |')
  for frames, side, features in SHAPES:
    run = programs(frames, side, features)
    best = dict.fromkeys(run, math.inf)
    for _ in range(1 + flags.FLAGS.repeats):  # the first compiles
      for name, program in run.items():
        started = time.perf_counter()
        jax.block_until_ready(program())
        best[name] = min(best[name], time.perf_counter() - started)
    work = 2 * 9 * features**2 * frames * side**2
    cells = ' | '.join(f'{work / seconds / 1e9:.0f} GFLOP/s' for seconds in best.values())
    print(f'| {frames} of {side}x{side}x{features} | {cells} |', flush=True)


if __name__ == '__main__':
  flags.DEFINE_integer('repeats', 10, 'Runs of each program.', lower_bound=1)
  command.run(main)
