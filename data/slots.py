"""Arrays that worker processes send through shared memory, which is used again for later arrays.

The kernel clears new memory page by page: for a clip of 4 MB that takes 4 ms, and copying it to
memory that was used before 0.3 ms.

A worker owns slots of shared memory.  It sends a slot's name through a queue, and the process that
receives it copies the array and marks the slot as free.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from multiprocessing import shared_memory, util

import numpy as np

Attached = dict[str, shared_memory.SharedMemory]  # by name

HEAD = 64  # bytes before the array; the first of them is 1 until the array has been received
_own: list[shared_memory.SharedMemory] = []  # the slots of this process


@dataclasses.dataclass(frozen=True)
class Sent:
  """Where an array is."""

  slot: str  # its name
  shape: tuple[int, ...]
  dtype: np.dtype


def send(array: np.ndarray) -> Sent:
  """Copies an array to the smallest free slot that it fits into, or to a new one if there is none.

  Threads of one process must not call it at the same time.
  """
  size = HEAD + array.nbytes
  free = (slot for slot in _own if not slot.buf[0] and slot.size >= size)
  slot = min(free, key=lambda slot: slot.size, default=None) or _new(size)
  sent = Sent(slot.name, array.shape, array.dtype)
  _array(slot, sent)[...] = array
  slot.buf[0] = 1
  return sent


def receive(sent: Sequence[Sent], attached: Attached) -> np.ndarray:
  """The arrays, which have one shape, stacked in new memory; their slots are then free.

  attached: the slots that were received from before, to which new ones are added.
  """
  slots = [_attach(one.slot, attached) for one in sent]
  stacked = np.stack([_array(slot, one) for slot, one in zip(slots, sent, strict=True)])
  for slot in slots:
    slot.buf[0] = 0
  return stacked


def _array(slot: shared_memory.SharedMemory, sent: Sent) -> np.ndarray:
  return np.ndarray(sent.shape, sent.dtype, slot.buf, HEAD)


def _new(size: int) -> shared_memory.SharedMemory:
  if not _own:
    util.Finalize(None, _remove, exitpriority=0)
  _own.append(shared_memory.SharedMemory(create=True, size=size))
  return _own[-1]


def _attach(name: str, attached: Attached) -> shared_memory.SharedMemory:
  if name not in attached:
    attached[name] = shared_memory.SharedMemory(name)
    attached[name].unlink()  # the name alone: both processes keep the memory until they end
  return attached[name]


def _remove() -> None:
  """Removes the names of the slots that no process has attached."""
  for slot in _own:
    with contextlib.suppress(FileNotFoundError):
      slot.unlink()
