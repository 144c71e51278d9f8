r"""The time and memory of a program on devices that are not there, from what XLA compiled for them.

The compiler for TPUs estimates the cycles of every instruction, which includes waiting for memory.
It has no estimate for collectives.  So

  seconds = cycles / clock + bytes of collectives / bytes a second over a chip's links,

where instructions in loops count as often as they run.  This assumes that nothing is sent while
anything is computed, and so it is too long for collectives that overlap with a computation.
Instructions without an estimate are listed.  So is what is sent between slices: its bytes are
known, but the bandwidth of that network is not.
"""

import collections
import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator

import jax

from core.errors import UserError
from training.slices import GIB, Slice

COLLECTIVES = ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute', 'reduce-scatter')

# The kind of instruction for the part of a collective that leaves a slice.
BETWEEN = 'between-slices'
_BETWEEN = '_xla_host_transfer_handler_name="xla_megascale_runtime"'

UNKNOWN = 2**63 - 1  # the cycles that the compiler writes if it has no estimate

_BITS = {'pred': 8, 'bf16': 16, 'f16': 16, 's4': 4, 'u4': 4}  # other types have it in their names
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(')
_ARRAY = re.compile(r'\b(pred|bf16|[fsuc]\d+\w*)\[([\d,]*)\]')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r'(?:body|to_apply|calls|called_computations)=\{?%?([\w.\-]+)')
_CONDITION = re.compile(r'condition=%?([\w.\-]+)')
_NUMBER = re.compile(r' s32\[\]\S* constant\((\d+)\)')
_SOURCE = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """An instruction that takes time by itself, and how often it runs."""

  name: str
  kind: str
  source: str  # the operation of the JAX program from which it was compiled
  turns: int
  cycles: int
  sent: int  # bytes that a collective sends


def instructions(text: str) -> Iterator[Instruction]:
  """The instructions that run in the compiled program of this text.

  ValueError if the text does not say how often a loop turns.
  """
  bodies, entry = _computations(text)

  def walk(name, turns):
    for line in bodies[name]:
      match = _INSTRUCTION.match(line)
      if not match:
        continue
      name, result, kind = match.groups()
      cycles, source = _CYCLES.search(line), _SOURCE.search(line)
      base = kind.removesuffix('-start')
      if kind == 'send' and _BETWEEN in line:
        base = BETWEEN
      sent = _sent(kind, result) if base in (*COLLECTIVES, BETWEEN) else 0
      if kind == 'while':
        often = _turns(line, bodies)
        if often is None:
          raise UserError(f'The program does not say how often the loop {name} turns.')
        yield from walk(_CALLED.search(line).group(1), turns * often)
      elif kind == 'call':
        yield from walk(_CALLED.search(line).group(1), turns)
      elif cycles or sent:
        cycles = int(cycles.group(1)) if cycles else 0
        yield Instruction(name, base, source.group(1) if source else '', turns, cycles, sent)

  yield from walk(entry, 1)


def _turns(line: str, bodies: dict[str, list[str]]) -> int | None:
  """How often a loop turns, from its annotation or from its condition: JAX's loops count from 0 up
  to a constant.  None if neither says it."""
  if known := _TURNS.search(line):
    return int(known.group(1))
  condition = '\n'.join(bodies[_CONDITION.search(line).group(1)])
  numbers = _NUMBER.findall(condition)
  return int(numbers[0]) if len(numbers) == 1 and 'direction=LT' in condition else None


def _computations(text):
  """The lines of every computation, by name, and the name of the entry computation."""
  bodies, entry, name = {}, None, None
  for line in text.splitlines():
    if match := _COMPUTATION.match(line):
      name = match.group(2)
      bodies[name] = []
      entry = name if match.group(1) else entry
    elif name:
      bodies[name].append(line)
  return bodies, entry


def _sent(kind: str, result: str) -> int:
  """The bytes of a collective's result.  An asynchronous start returns its operands beside it, so
  the largest part counts."""
  if not ((kind.endswith('-start') or kind == 'send') and result.startswith('(')):
    return _bytes(result)
  depth, parts = 0, ['']
  for letter in result[1:-1]:
    depth += (letter in '({[') - (letter in ')}]')
    if letter == ',' and not depth:
      parts.append('')
    parts[-1] += letter
  return max(_bytes(part) for part in parts)


def _bytes(result: str) -> int:
  """The bytes of all arrays in a type."""
  bits = lambda kind: _BITS.get(kind) or int(re.search(r'\d+', kind).group())
  sizes = (
    bits(kind) * math.prod(int(n) for n in shape.split(',') if n)
    for kind, shape in _ARRAY.findall(result)
  )
  return sum(sizes) // 8


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
  unknown = [i for i in run if i.cycles == UNKNOWN or i.kind == BETWEEN]
  run = [i for i in run if i.cycles != UNKNOWN]
  cycles = sum(i.cycles * i.turns for i in run)
  sent, costs = collections.Counter(), collections.Counter()
  for i in run:
    if i.sent:
      sent[i.kind] += i.sent * i.turns
    costs[_kind(i)] += i.cycles * i.turns
  linked = sum(n for kind, n in sent.items() if kind != BETWEEN)
  computing, sending = cycles / chip.clock, linked / (chip.links / chip.devices)
  seconds = computing + sending
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
    'seconds': {'computing': computing, 'sending': sending, 'total': seconds},
    'mfu': flops / seconds / (on.chips * chip.peak),
    'not_in_seconds': {i.name: i.source for i in unknown},
    'costliest': {kind: n / max(cycles, 1) for kind, n in costs.most_common(10)},
  }


def _kind(instruction: Instruction) -> str:
  """The kind of the instruction, with the JAX operation from which it was compiled."""
  source = instruction.source.rsplit('/', 1)[-1].split(';')[0]
  backward = ' backward' if 'transpose(' in instruction.source else ''
  return f'{instruction.kind} {source}{backward}'.strip()
