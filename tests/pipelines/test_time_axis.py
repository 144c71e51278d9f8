"""Devices that share a clip share its work; `benchmarks.cost` has other numbers of them."""

import numpy as np

from benchmarks.cost import programs
from tests.oracles import relative_error
from tests.training.test_plan import MODEL


def measured(devices):
  """The operations of a device, for the answer and for its gradient, and the answer."""
  lowered, inputs = programs(80, 16, devices, **MODEL | {'temporal_strides': (1, 8)})
  answer, gradient = (program.compile() for program in lowered)
  flops = [program.cost_analysis()['flops'] for program in (answer, gradient)]
  return np.array(flops), np.asarray(answer(*inputs))


def test_each_of_eight_devices_has_its_part_of_the_operations():
  """8 does not divide the 10 frames of the coarsest level, of which devices have rows."""
  (want_flops, want), (flops, answer) = measured(1), measured(8)
  assert (flops <= 1.5 / 8 * want_flops).all()
  assert relative_error(answer, want) < 1e-5
