"""Descriptions of TPU slices, for which programs can be compiled on a machine without TPUs.

`libtpu` contains the compiler for every generation, and needs no TPU.
"""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from core.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Generation:
  """A kind of chip, from https://cloud.google.com/tpu/docs/system-architecture-tpu-vm.

  The network of v5e and v6e is that of a pod divided by its chips; that of v5p is from Austin et
  al., 2025, "How to scale your model".  The clock rate follows from the peak and the number of
  128x128 or 256x256 matrix units.
  """

  libtpu: str  # the name in libtpu
  dimensions: int  # of the grid of chips in a slice
  hbm: int  # memory in bytes
  bandwidth: float  # bytes per second from and to memory
  peak: float  # dense bfloat16 operations per second
  links: float  # bytes per second to other chips, over all links
  clock: float  # cycles per second
  network: float = 0.0  # bytes per second of a chip to other slices; 0 is unknown
  devices: int = 1  # JAX devices of a chip: two where every core is a device
  cores: str = ''  # libtpu's name for how the cores are used; '' where there is no choice


GENERATIONS = {
  'v4': Generation('v4', 3, 32 * GIB, 1228e9, 275e12, 300e9, 1.05e9, cores='megacore'),
  'v5e': Generation('v5e', 2, 16 * GIB, 819e9, 197e12, 200e9, 1.5e9, 3.125e9),
  'v5p': Generation('v5p', 3, 95 * GIB, 2765e9, 459e12, 600e9, 1.75e9, 6.25e9),
  'v6e': Generation('v6e', 2, 32 * GIB, 1640e9, 918e12, 448e9, 1.75e9, 12.5e9),
  'v7x': Generation('tpu7x', 3, 192 * GIB, 7380e9, 2307e12, 1200e9, 2.2e9, devices=2),
}


_NAME = re.compile(r'(?:([1-9]\d*)x)?(v\w+):([1-9]\d*(?:x[1-9]\d*)*)')


@dataclasses.dataclass(frozen=True)
class Slice:
  """The chips of one slice, or of several equal slices."""

  name: str
  generation: Generation
  devices: Sequence[jax.Device]  # programs can be compiled for these devices, but not run

  @property
  def chips(self) -> int:
    """The number of chips."""
    return len(self.devices) // self.generation.devices


def parse(name: str) -> tuple[int, str, list[int]]:
  """The number of slices, the generation, and the chips along each axis, from `2xv5p:4x4x8`.

  UserError if the name has another form.
  """
  match = _NAME.fullmatch(name)
  count, kind, shape = match.groups() if match else ('', '', '')
  generation, sizes = GENERATIONS.get(kind), [int(n) for n in shape.split('x') if n]
  if not generation or len(sizes) != generation.dimensions:
    examples = ', '.join(f'{k}:{"x".join(["4"] * g.dimensions)}' for k, g in GENERATIONS.items())
    raise UserError(
      f'{name} is no slice; allowed are {examples}, and of those other sizes, and several slices '
      'as in 2xv5p:4x4x4.'
    )
  if sizes[0] % 2 or sizes[1] % 2:
    raise UserError(
      f'{name} does not divide into hosts of 2x2 chips: its first two sizes have to be even.'
    )
  return int(count or 1), kind, sizes


def open_slice(name: str) -> Slice:
  """The slice called `v5p:4x4x8`, or several of them, called `2xv5p:4x4x8`.

  UserError if there is no slice of that name, or if libtpu is not installed.
  """
  count, kind, sizes = parse(name)
  generation = GENERATIONS[kind]
  if not importlib.util.find_spec('libtpu'):
    raise UserError(
      f'To compile for {name} without a TPU its compiler is needed: pip install libtpu, in the '
      f'version which JAX {jax.__version__} asks for by pip install "jax[tpu]".'
    )
  # Without these, libtpu asks the network which machine it is on.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  # libtpu takes a lock, because only one process can use a TPU; but many can compile for one.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  options = {'chip_config_name': generation.cores} if generation.cores else {}
  topology = topologies.get_topology_desc(
    platform='tpu',
    topology_name=f'{generation.libtpu}:{"x".join(map(str, sizes))}',
    num_slices=count,
    **options,
  )
  assert len(topology.devices) == count * math.prod(sizes) * generation.devices
  return Slice(name, generation, topology.devices)
