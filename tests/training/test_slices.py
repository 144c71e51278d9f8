import importlib.util

import pytest

from tests.chips import devices_of
from training.slices import GENERATIONS, open_slice, parse

WRONG = ['v5p', 'v5p:', 'v5p:4x4', 'v6e:4x4x4', 'v9:2x2', 'v5p:4x4x0', '', '0xv6e:4x4', 'xv6e:4x4']


@pytest.mark.parametrize('name', WRONG)
def test_a_name_of_no_slice_is_refused_with_examples(name):
  with pytest.raises(ValueError, match='is no slice') as error:
    open_slice(name)
  assert str(error.value) == (
    f'{name} is no slice; allowed are v4:4x4x4, v5e:4x4, v5p:4x4x4, v6e:4x4, v7x:4x4x4, and of '
    'those other sizes, and several slices as in 2xv5p:4x4x4.'
  )


@pytest.mark.parametrize(
  ('name', 'want'),
  [
    ('v5p:4x4x8', (1, 'v5p', [4, 4, 8])),
    ('2xv5p:4x4x8', (2, 'v5p', [4, 4, 8])),
    ('16xv7x:2x2x1', (16, 'v7x', [2, 2, 1])),
    ('v6e:16x16', (1, 'v6e', [16, 16])),
  ],
)
def test_a_name_says_how_many_slices_of_which_size(name, want):
  assert parse(name) == want


def facts(device):
  at = tuple(device.coords), device.core_on_chip, getattr(device, 'slice_index', None)
  return device.id, device.process_index, *at, device.device_kind, device.platform


@pytest.mark.parametrize(
  'name',
  ['v4:2x2x4', 'v4:4x4x4', 'v5e:4x4', 'v5p:2x2x2', 'v5p:4x4x8', 'v6e:16x16', 'v7x:4x4x4',
   '2xv5p:2x2x2', '4xv6e:4x4', '2xv7x:2x2x1'],
)  # fmt: skip
def test_devices_are_as_the_compiler_describes_them(name):
  """What other tests take for a slice."""
  pytest.importorskip('libtpu', reason='libtpu is not installed here; CI has it')
  assert [facts(d) for d in devices_of(name)] == [facts(d) for d in open_slice(name).devices]


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
