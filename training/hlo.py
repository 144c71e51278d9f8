"""The instructions of a program that XLA compiled, read from its text."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from core.errors import UserError

COLLECTIVES = ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute', 'reduce-scatter')

# The kind of instruction for the part of a collective that leaves a slice.
BETWEEN = 'between-slices'
_BETWEEN = '_xla_host_transfer_handler_name="xla_megascale_runtime"'

UNKNOWN = 2**63 - 1  # the cycles that the compiler writes if it has no estimate

# They move no data: names for data that is there, and the ends of what another instruction began.
_FREE = ('parameter', 'constant', 'get-tuple-element', 'tuple', 'bitcast', 'after-all')

_BITS = {'pred': 8, 'bf16': 16, 'f16': 16, 's4': 4, 'u4': 4}  # other types have it in their names
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$')
_OPERAND = re.compile(r'([\w.\-]+)(?=, |$)')
_INSTRUCTION = re.compile(r'^\s*(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(')
_ARRAY = re.compile(r'\b(pred|bf16|[fsuc]\d+\w*)\[([\d,]*)\](?:\{([^}]*)\})?')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r'(?:body|to_apply|calls|called_computations)=\{?%?([\w.\-]+)')
_CONDITION = re.compile(r'condition=%?([\w.\-]+)')
_NUMBER = re.compile(r' s32\[\]\S* constant\((\d+)\)')
_SOURCE = re.compile(r'op_name="([^"]*)"')
_LABELS = re.compile(r'dim_labels=(\w+)_(\w+)->(\w+)')
_CONTRACTED = re.compile(r'lhs_contracting_dims=\{([\d,]*)\}')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """An instruction that takes time by itself, and how often it runs."""

  name: str
  kind: str
  source: str  # the operation of the JAX program from which it was compiled
  turns: int
  cycles: int  # the compiler's estimate, 0 if it has none
  sent: int  # bytes that a collective sends
  flops: float  # of products and convolutions, two for each multiply and add
  moved: int  # bytes from and to the memory of the device
  hidden: bool  # whether other instructions run at the same time


@dataclasses.dataclass(frozen=True)
class _Line:
  name: str
  result: str  # its type
  kind: str
  operands: Sequence[str]
  text: str
  root: bool

  @property
  def called(self) -> str:
    return _CALLED.search(self.text).group(1)


Bodies = dict[str, dict[str, _Line]]  # the lines of every computation, by their names


def instructions(text: str) -> Iterator[Instruction]:
  """The instructions that run in the compiled program of this text.

  UserError if the text does not say how often a loop turns.
  """
  bodies, entry = _computations(text)

  def walk(computation, turns):
    lines = bodies[computation]
    for line in lines.values():
      if line.kind == 'while':
        often = _turns(line, bodies)
        if often is None:
          raise UserError(f'The program does not say how often the loop {line.name} turns.')
        yield from walk(line.called, turns * often)
      elif line.kind == 'call':
        yield from walk(line.called, turns)
      elif line.kind not in _FREE and not line.kind.endswith('-done'):
        yield _instruction(line, lines, bodies, turns)

  yield from walk(entry, 1)


def _instruction(line, lines, bodies, turns):
  cycles, source = _CYCLES.search(line.text), _SOURCE.search(line.text)
  kind = line.kind.removesuffix('-start')
  if kind == 'send' and _BETWEEN in line.text:
    kind = BETWEEN
  linked = kind in (*COLLECTIVES, BETWEEN)
  return Instruction(
    line.name,
    kind,
    source.group(1) if source else '',
    turns,
    int(cycles.group(1)) if cycles else 0,
    _sent(kind, line, lines) if linked else 0,
    _flops(line, lines, bodies),
    0 if linked else _moved(line, lines, bodies),
    line.kind.endswith('-start'),
  )


def _computations(text: str) -> tuple[Bodies, str]:
  """The lines of every computation, and the name of the entry computation."""
  bodies, entry, name = {}, None, None
  for text_line in text.splitlines():
    if match := _COMPUTATION.match(text_line):
      name = match.group(2)
      bodies[name] = {}
      entry = name if match.group(1) else entry
    elif name and (match := _INSTRUCTION.match(text_line)):
      root, line, result, kind = match.groups()
      operands = _OPERAND.findall(_until_closed(text_line[match.end() :]))
      bodies[name][line] = _Line(line, result, kind, operands, text_line, bool(root))
  return bodies, entry


def _until_closed(text: str) -> str:
  """The text before the parenthesis that closes one which was opened before it."""
  depth = 1
  for i, letter in enumerate(text):
    depth += (letter == '(') - (letter == ')')
    if not depth:
      return text[:i]
  return text


def _turns(line: _Line, bodies: Bodies) -> int | None:
  """How often a loop turns, from its annotation or from its condition: JAX's loops count from 0 up
  to a constant.  None if neither says it."""
  if known := _TURNS.search(line.text):
    return int(known.group(1))
  condition = bodies[_CONDITION.search(line.text).group(1)].values()
  condition = '\n'.join(one.text for one in condition)
  numbers = _NUMBER.findall(condition)
  return int(numbers[0]) if len(numbers) == 1 and 'direction=LT' in condition else None


# ---- bytes


def _parts(result: str) -> list[str]:
  """The types in a tuple, or the only one."""
  if not result.startswith('('):
    return [result]
  depth, parts = 0, ['']
  for letter in result[1:-1]:
    depth += (letter in '({[') - (letter in ')}]')
    if letter == ',' and not depth:
      parts.append('')
    parts[-1] += letter
  return parts


def _bytes(result: str, everywhere: bool = True) -> int:
  """The bytes of all arrays in a type, or of those alone that are in the memory of the device: not
  of those whose layout names another memory space, as S(1), the memory of a core."""
  bits = lambda kind: _BITS.get(kind) or int(re.search(r'\d+', kind).group())
  sizes = (
    bits(kind) * math.prod(_numbers(shape))
    for kind, shape, layout in _ARRAY.findall(result)
    if everywhere or 'S(' not in layout
  )
  return sum(sizes) // 8


def _sent(kind: str, line: _Line, lines: dict[str, _Line]) -> int:
  """The bytes that a device sends for a collective among many.  A ring gathers what it returns,
  scatters what it gets, and does both to reduce for all."""
  if kind == 'reduce-scatter':
    return sum(_bytes(lines[name].result) for name in line.operands)
  # An asynchronous start returns its operands beside the result: the largest part counts.
  started = line.kind.endswith('-start') or line.kind == 'send'
  sizes = map(_bytes, _parts(line.result))
  return (2 if kind == 'all-reduce' else 1) * (max(sizes) if started else sum(sizes))


def _moved(line: _Line, lines: dict[str, _Line], bodies: Bodies) -> int:
  """The bytes that an instruction reads from the memory of the device and writes to it."""
  operand_bytes = lambda name: _bytes(lines[name].result, everywhere=False)
  if line.kind == 'fusion':
    return _moved_by_fusion(line, lines, bodies[line.called])
  if line.kind in ('dynamic-slice', 'slice', 'gather'):
    return 2 * _bytes(line.result, everywhere=False)
  if line.kind == 'dynamic-update-slice':
    return 2 * operand_bytes(line.operands[1])
  # What is started returns its operands and semaphores beside the result.
  result = _parts(line.result)[0] if line.kind.endswith('-start') else line.result
  return _bytes(result, everywhere=False) + sum(map(operand_bytes, dict.fromkeys(line.operands)))


def _moved_by_fusion(line, lines, body):
  """A fusion reads its operands, but only slices of those of which it uses nothing else, and it
  writes its result, but only the slice of an array that it updates in place."""
  users = {name: [one for one in body.values() if name in one.operands] for name in body}
  parameters = {
    int(re.search(r'parameter\((\d+)\)', one.text).group(1)): one
    for one in body.values()
    if one.kind == 'parameter'
  }
  total = 0
  for i, operand in enumerate(line.operands):
    if not _bytes(lines[operand].result, everywhere=False):
      continue
    name, uses = parameters[i].name, users[parameters[i].name]
    if uses and all(_part_of(name, use) for use in uses):
      total += sum(_bytes(use.result) for use in uses if use.kind != 'dynamic-update-slice')
    else:
      total += _bytes(lines[operand].result, everywhere=False)
  root = next(one for one in body.values() if one.root)
  if root.kind == 'dynamic-update-slice':
    return total + _bytes(body[root.operands[1]].result)
  return total + _bytes(line.result, everywhere=False)


def _part_of(name: str, use: _Line) -> bool:
  """Whether an instruction uses a slice of what has this name, or updates a slice of it."""
  slices = ('dynamic-slice', 'slice', 'gather', 'dynamic-update-slice')
  return use.kind in slices and use.operands[0] == name and name not in use.operands[1:]


# ---- operations


def _flops(line: _Line, lines: dict[str, _Line], bodies: Bodies) -> float:
  """The operations of products and convolutions in an instruction and in what it calls."""
  if line.kind == 'fusion':
    body = bodies[line.called]
    return sum(_flops(one, body, bodies) for one in body.values())
  if line.kind not in ('convolution', 'dot'):
    return 0.0
  sides = [_shape(lines[name].result) for name in line.operands[:2]]
  result = _shape(line.result)
  if line.kind == 'dot':
    contracted = _numbers(_CONTRACTED.search(line.text).group(1))
    return 2.0 * math.prod(result) * math.prod(sides[0][i] for i in contracted)
  read, kernel, written = _LABELS.search(line.text).groups()
  terms = math.prod(n for n, label in zip(result, written) if not label.isdigit())
  terms *= sides[1][kernel.index('i')]
  for axis in filter(str.isdigit, read):
    terms *= _pairs(line.text, int(axis), sides[0][read.index(axis)], result[written.index(axis)])
  return 2.0 * terms


def _pairs(text: str, axis: int, read: int, written: int) -> int:
  """How many pairs of an output and an element of the kernel meet an input along an axis: neither
  padding nor a zero between inputs."""
  window = re.search(r'window=\{([^}]*)\}', text)
  window = dict(part.split('=') for part in window.group(1).split()) if window else {}
  option = lambda key, default: window[key].split('x')[axis] if key in window else default
  stride, size = int(option('stride', 1)), int(option('size', 1))
  between, apart = int(option('lhs_dilate', 1)), int(option('rhs_dilate', 1))
  before = int(option('pad', '0_0').split('_')[0])
  at = np.arange(written)[:, None] * stride + np.arange(size) * apart - before
  return int(np.sum((at >= 0) & (at <= (read - 1) * between) & (at % between == 0)))


def _shape(result: str) -> list[int]:
  return _numbers(_ARRAY.search(result).group(2))


def _numbers(text: str) -> list[int]:
  return [int(n) for n in text.split(',') if n]
