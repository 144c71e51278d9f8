"""The devices of TPU slices as JAX has them, without a TPU or its compiler."""

import dataclasses
import itertools

from training.slices import GENERATIONS, parse

KINDS = {
  'v4': 'TPU v4',
  'v5e': 'TPU v5 lite',
  'v5p': 'TPU v5',
  'v6e': 'TPU v6 lite',
  'v7x': 'TPU7x',
}


@dataclasses.dataclass(frozen=True)
class Chip:
  """A device, which can be in a mesh and do nothing else."""

  id: int
  process_index: int
  coords: tuple[int, int, int]
  core_on_chip: int
  device_kind: str
  platform: str = 'tpu'


@dataclasses.dataclass(frozen=True)
class ChipOfMany(Chip):
  """A device of one of several slices."""

  slice_index: int = 0


def devices_of(name: str) -> list[Chip]:
  """The devices of the slice called `v5p:4x4x8`, or `2xv5p:4x4x8`, in the order of JAX.

  A host has 2x2x1 chips; hosts are numbered along x first, then y and z, and so are chips.
  """
  count, kind, sizes = parse(name)
  x, y, z = (*sizes, 1)[:3]
  cores, hosts = GENERATIONS[kind].devices, x * y * z // 4
  chips = []
  for s, host in itertools.product(range(count), range(hosts)):
    corner = 2 * (host % (x // 2)), 2 * (host // (x // 2) % (y // 2)), host // (x * y // 4)
    for up, right, core in itertools.product(range(2), range(2), range(cores)):
      at = corner[0] + right, corner[1] + up, corner[2]
      number = cores * (at[0] + x * (at[1] + y * at[2])) + core
      facts = dict(coords=at, core_on_chip=core, device_kind=KINDS[kind])
      if count == 1:
        chips.append(Chip(number, host, **facts))
      else:
        number += 100_000 * (s + 1)
        chips.append(ChipOfMany(number, s * hosts + host, slice_index=s, **facts))
  return chips
