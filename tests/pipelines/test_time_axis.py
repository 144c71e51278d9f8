"""Devices that share a clip share its work."""

import numpy as np
import pytest

from benchmarks.cost import programs
from tests.conftest import TINY
from tests.oracles import relative_error


def measured(devices):
  """The operations of a device, for the answer and for its gradient, and the answer."""
  lowered, inputs = programs(80, 16, devices, **TINY | {'temporal_strides': (1, 8)})
  quickly = {'xla_backend_optimization_level': 0}
  answer, gradient = (program.compile(quickly) for program in lowered)
  flops = [program.cost_analysis()['flops'] for program in (answer, gradient)]
  return np.array(flops), np.asarray(answer(*inputs))


@pytest.fixture(scope='module')
def alone():
  return measured(1)


@pytest.mark.parametrize(('n', 'most'), [(5, 1.15), (8, 1.5)])
def test_each_device_has_its_part_of_the_operations(alone, n, most):
  """8 does not divide the 10 frames of the coarsest level, of which devices have rows."""
  flops, answer = measured(n)
  assert (flops <= most / n * alone[0]).all()
  assert relative_error(answer, alone[1]) < 1e-5
