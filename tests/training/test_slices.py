import importlib.util

import pytest

from training.slices import GENERATIONS, open_slice


@pytest.mark.parametrize('name', ['v5p', 'v5p:', 'v5p:4x4', 'v6e:4x4x4', 'v9:2x2', 'v5p:4x4x0', ''])
def test_what_is_no_slice_is_told_what_is(name):
  with pytest.raises(ValueError, match='is no slice') as error:
    open_slice(name)
  assert str(error.value) == (
    f'{name} is no slice; allowed are v4:4x4x4, v5e:4x4, v5p:4x4x4, v6e:4x4, v7x:4x4x4, and of '
    'those other sizes.'
  )


def test_a_slice_that_is_no_whole_hosts_is_refused():
  with pytest.raises(ValueError, match='v5p:3x4x4 does not divide into hosts of 2x2 chips'):
    open_slice('v5p:3x4x4')


def test_without_a_compiler_it_is_said_how_to_get_one(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match='pip install libtpu'):
    open_slice('v5p:2x2x1')


def test_the_peak_is_what_so_many_matrix_units_do_at_the_clock():
  for name, chip in GENERATIONS.items():
    units = chip.peak / chip.clock / (2 * 128 * 128)
    assert units == pytest.approx(round(units), rel=0.01), name
