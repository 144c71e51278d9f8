r"""The time and memory of a program on devices that are not there, from what XLA compiled for them.

The compiler for TPUs estimates the cycles of every instruction, which includes waiting for memory.
It has no estimate for collectives.  So

  seconds = cycles / clock + bytes of collectives / bytes a second over a chip's links,

where instructions in loops count as often as they run.  This assumes that nothing is sent while
anything is computed, and so it is too long for collectives that overlap with a computation.  The
compiler also counts a bfloat16 in memory as if it were a float32: `benchmarks/calibration.py`.

The roofline (Williams et al., 2009) is the other bound.  There an instruction takes the longer of

  flops / (0.95 * peak)  and  bytes from and to memory / (0.72 * bandwidth),

the shares of matrix products and of streams of float32 by the same compiler, and whatever copies or
sends beside the computation is hidden behind it where it can be.  A real step lies between the two.

What slices send to each other takes its bytes over the bandwidth of the network between them, where
that is known; it is added to the first and hidden in the second.  Neither counts Pallas kernels
without an estimate, the input from the host, or the gaps between two programs.
"""

import collections
import contextlib
from collections.abc import Iterator, Sequence

import jax

from core.errors import UserError
from training.hlo import BETWEEN, UNKNOWN, Instruction, instructions
from training.slices import GIB, Slice

# The shares of a chip's peak and bandwidth at which its compiler estimates large products of
# matrices and streams of float32.
OF_PEAK, OF_BANDWIDTH = 0.95, 0.72


@contextlib.contextmanager
def fitting(on: Slice) -> Iterator[None]:
  """A context in which to compile for the slice: too little memory for the program is a
  ValueError."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    reason = str(error).removeprefix('RESOURCE_EXHAUSTED: ').splitlines()[0]
    raise UserError(
      f'It does not fit {on.name}: {reason}  Less memory is needed with a smaller batch, with more '
      'chips that share clips (time) or parameters (fsdp) in the mesh, and with model.remat.'
    ) from error


def forecast(compiled, flops: float, on: Slice) -> dict:
  """The memory, time and costliest operations of the program on the slice, in types of JSON.

  compiled: a `jax.stages.Compiled`.
  flops: the operations of the program on all devices, without rematerialisation.
  """
  chip, memory = on.generation, compiled.memory_analysis()
  share = chip.hbm / chip.devices
  arguments = memory.argument_size_in_bytes
  peak = arguments + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
  peak += memory.output_size_in_bytes - memory.alias_size_in_bytes
  run = list(instructions(compiled.as_text()))
  between = sum(i.sent * i.turns for i in run if i.kind == BETWEEN) * chip.devices
  between_slices = between / chip.network if chip.network else 0.0
  unknown = [i for i in run if i.cycles == UNKNOWN or (i.kind == BETWEEN and not chip.network)]
  least = max(_roofline(run, on), _sending(run, on), between_slices)
  run = [i for i in run if i.cycles != UNKNOWN]
  cycles = sum(i.cycles * i.turns for i in run)
  sent, costs = collections.Counter(), collections.Counter()
  for i in run:
    if i.sent:
      sent[i.kind] += i.sent * i.turns
    costs[_kind(i)] += i.cycles * i.turns
  computing, sending = cycles / chip.clock, _sending(run, on)
  seconds = computing + sending + between_slices
  return {
    'slice': on.name,
    'chips': on.chips,
    'memory': {
      'arguments_gib': arguments / GIB,
      'temporaries_gib': memory.temp_size_in_bytes / GIB,
      'peak_gib': peak / GIB,
      'hbm_gib': share / GIB,
      'share': peak / share,
      'fits': peak <= share,
    },
    'model_flops': flops,
    'bytes_accessed': compiled.cost_analysis().get('bytes accessed', 0.0),
    'collectives_bytes': dict(sent),
    'seconds': {
      'computing': computing,
      'sending': sending,
      'between_slices': between_slices,
      'total': seconds,
    },
    'mfu': flops / seconds / (on.chips * chip.peak),
    'roofline': {'total': least, 'mfu': flops / max(least, 1e-30) / (on.chips * chip.peak)},
    'not_in_seconds': {i.name: i.source for i in unknown},
    'costliest': {kind: n / max(cycles, 1) for kind, n in costs.most_common(10)},
  }


def _roofline(run: Sequence[Instruction], on: Slice) -> float:
  """The seconds of the instructions of a device at the roofline."""
  chip = on.generation
  rate, bandwidth = (
    share * value / chip.devices
    for share, value in ((OF_PEAK, chip.peak), (OF_BANDWIDTH, chip.bandwidth))
  )
  moving = sum(i.moved * i.turns for i in run) / bandwidth
  ordered = (i for i in run if not i.hidden)
  return max(moving, sum(max(i.flops / rate, i.moved / bandwidth) * i.turns for i in ordered))


def _sending(run: Sequence[Instruction], on: Slice) -> float:
  """The seconds of the collectives within a slice."""
  sent = sum(i.sent * i.turns for i in run if i.kind != BETWEEN)
  return sent / (on.generation.links / on.generation.devices)


def _kind(instruction: Instruction) -> str:
  """The kind of the instruction, with the JAX operation from which it was compiled."""
  source = instruction.source.rsplit('/', 1)[-1].split(';')[0]
  backward = ' backward' if 'transpose(' in instruction.source else ''
  return f'{instruction.kind} {source}{backward}'.strip()
