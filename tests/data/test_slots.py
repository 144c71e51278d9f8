from multiprocessing import shared_memory

import numpy as np
import pytest

from data import slots

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)


@pytest.fixture(autouse=True)
def own(monkeypatch):
  """The slots of this process, which end with the test."""
  monkeypatch.setattr(slots, '_own', [])
  yield slots._own
  slots._remove()


@pytest.mark.parametrize(
  'array', [FRAMES, FRAMES[:, ::-1, 1:5], FRAMES > 9, FRAMES[..., 0] / 3, FRAMES[:0], np.int64(7)]
)
def test_what_is_received_is_what_was_sent(array):
  received = slots.receive([slots.send(np.asarray(array))] * 2, {})
  assert received.dtype == array.dtype
  np.testing.assert_array_equal(received, np.stack([array, array]))


def test_a_slot_is_used_again_when_its_array_was_received_and_not_before(own):
  attached, first = {}, slots.send(FRAMES)
  second = slots.send(FRAMES + 1)
  assert first.slot != second.slot
  received = slots.receive([second], attached)
  third = slots.send(FRAMES + 2)
  assert third.slot == second.slot
  both = slots.receive([first, third], attached)
  np.testing.assert_array_equal(received, [FRAMES + 1])  # a copy
  np.testing.assert_array_equal(both, [FRAMES, FRAMES + 2])
  assert len(own) == len(attached) == 2


def test_an_array_goes_to_the_smallest_slot_that_it_fits_into(own):
  large, small = np.zeros(2**17, np.uint8), np.zeros(2**12, np.uint8)
  sent = [slots.send(large), slots.send(small)]
  attached = {}
  for one in sent:
    slots.receive([one], attached)
  assert [slots.send(small).slot, slots.send(small).slot] == [sent[1].slot, sent[0].slot]
  assert slots.send(large).slot not in attached


def exists(name):
  try:
    shared_memory.SharedMemory(name).close()
  except FileNotFoundError:
    return False
  return True


def test_no_name_is_left(own):
  received, lost = slots.send(FRAMES), slots.send(FRAMES)
  assert exists(lost.slot)
  slots.receive([received], {})
  assert not exists(received.slot)
  slots._remove()
  assert not exists(lost.slot)
