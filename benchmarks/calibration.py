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


def _convolution(x, kernel):
  labels = ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=labels)


_arrays = lambda dtype, *shapes: [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]

# Functions with the shapes of their arguments.
OPERATIONS: dict[str, tuple[Callable, list]] = {
  f'a product of two {SIZE}x{SIZE} bfloat16': (
    jnp.matmul, _arrays(jnp.bfloat16, (SIZE, SIZE), (SIZE, SIZE)),
  ),
  'a 3x3 convolution of 80 frames of 64x64 with 512 features': (
    _convolution, _arrays(jnp.bfloat16, (80, 64, 64, 512), (3, 3, 512, 512)),
  ),
  'a stream of 1 GiB of float32': (lambda x: x + 1, _arrays(jnp.float32, (2**18, 1024))),
  'a stream of 1 GiB of bfloat16': (lambda x: x + 1, _arrays(jnp.bfloat16, (2**19, 1024))),
}  # fmt: skip


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
