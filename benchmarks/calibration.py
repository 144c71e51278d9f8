r"""What forecasts say of operations whose cost is known, as shares of what a chip can do.

  python -m benchmarks.calibration --compile_for=v5p:2x2x1

Every operation is compiled for one chip.  Its share is the time that it takes at the peak of the
chip, or at its bandwidth, over the time of the forecast.  A forecast that is right for an operation
gives it the share that users of such chips measure, 90% or more of the peak for large products of
matrices.  The bytes of an operation on bfloat16 are half of those on float32.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh

from core import command
from core.sharding import replicated
from training import flops
from training.forecast import forecast
from training.plan import sharded_shape
from training.slices import Slice, open_slice

_COMPILE_FOR = flags.DEFINE_string(
  'compile_for', 'v5p:2x2x1', 'The slice, one chip of which is used.'
)

SIZE = 8192  # of matrices
GIB = 2**30


def product(a: jax.Array, b: jax.Array) -> jax.Array:
  return a @ b


def stream(x: jax.Array) -> jax.Array:
  """One more than every number: a read and a write."""
  return x + 1


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
  labels = ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=labels)


def matrices(dtype):
  return [jax.ShapeDtypeStruct((SIZE, SIZE), dtype)] * 2


def numbers(dtype):
  return [jax.ShapeDtypeStruct((GIB // jnp.dtype(dtype).itemsize // 1024, 1024), dtype)]


def frames(dtype):
  return [
    jax.ShapeDtypeStruct((80, 64, 64, 512), dtype),
    jax.ShapeDtypeStruct((3, 3, 512, 512), dtype),
  ]


OPERATIONS: dict[str, tuple[Callable, list]] = {
  f'a product of two {SIZE}x{SIZE} bfloat16': (product, matrices(jnp.bfloat16)),
  'a 3x3 convolution of 80 frames of 64x64 with 512 features': (convolution, frames(jnp.bfloat16)),
  'a stream of 1 GiB of float32': (stream, numbers(jnp.float32)),
  'a stream of 1 GiB of bfloat16': (stream, numbers(jnp.bfloat16)),
}


def shares(function: Callable, arguments: list, on: Slice) -> tuple[float, float]:
  """The shares of the peak or of the bandwidth of a chip: by the cycles of the compiler, and at the
  roofline."""
  sharding = replicated(Mesh(np.array(on.devices[:1]), ('one',)))
  arguments = [sharded_shape(x, sharding) for x in arguments]
  traced = jax.jit(function).trace(*arguments)
  operations = flops.count(traced.jaxpr.jaxpr)
  moved = sum(x.size * x.dtype.itemsize for x in (*arguments, *jax.tree.leaves(traced.out_info)))
  chip = on.generation
  least = max(operations / chip.peak, moved / chip.bandwidth) * chip.devices
  result = forecast(traced.lower().compile(), operations, on)
  return least / result['seconds']['total'], least / result['roofline']['total']


def main() -> None:
  on = open_slice(_COMPILE_FOR.value)
  print('| operation | cycles of the compiler | roofline |')
  print('|---|---|---|')
  for name, (function, arguments) in OPERATIONS.items():
    print(f'| {name} | ' + ' | '.join(f'{s:.0%}' for s in shares(function, arguments, on)) + ' |')


if __name__ == '__main__':
  command.run(main)
