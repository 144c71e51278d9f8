import dataclasses
import types

import jax
import pytest

from tests.programs import PROGRAM
from training.forecast import fitting, forecast
from training.slices import GENERATIONS, GIB, Slice

BETWEEN = PROGRAM.replace(
  '  ROOT %tuple.1',
  '  %send = (f32[256,8]{1,0}, u32[], token[]) send(%x, %y), channel_id=2, is_host_transfer=true, '
  'frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}\n'
  '  ROOT %tuple.1',
)


def test_what_leaves_a_slice_takes_the_time_of_the_network():
  on = Slice('2xv5e:2x2', GENERATIONS['v5e'], devices=jax.devices())
  one, two = (forecast(compiled(text), flops=1e6, on=on) for text in (PROGRAM, BETWEEN))
  sent = 7 * 256 * 8 * 4
  assert one['seconds']['between_slices'] == 0
  assert two['seconds']['between_slices'] == pytest.approx(sent / 3.125e9)
  more = two['seconds']['total'] - one['seconds']['total']
  assert more == pytest.approx(sent / 3.125e9)
  assert two['roofline']['total'] >= sent / 3.125e9
  assert two['not_in_seconds'].keys() == set()


def test_where_the_network_is_unknown_its_seconds_are_left_out():
  on = Slice('2xv4:2x2x1', GENERATIONS['v4'], devices=jax.devices())
  one, two = (forecast(compiled(text), flops=1e6, on=on) for text in (PROGRAM, BETWEEN))
  assert two['collectives_bytes'] == one['collectives_bytes'] | {'between-slices': 7 * 256 * 8 * 4}
  assert two['seconds'] == one['seconds']
  assert one['not_in_seconds'].keys() == set()
  assert two['not_in_seconds'].keys() == {'send'}


def compiled(text):
  """As JAX has it, with 3 GiB of arguments, one of which is made the result."""
  memory = types.SimpleNamespace(
    argument_size_in_bytes=3 * GIB,
    temp_size_in_bytes=2 * GIB,
    generated_code_size_in_bytes=0,
    output_size_in_bytes=2 * GIB,
    alias_size_in_bytes=GIB,
  )
  return types.SimpleNamespace(
    as_text=lambda: text, memory_analysis=lambda: memory, cost_analysis=dict
  )


def test_seconds_are_cycles_and_bytes_that_are_sent():
  on = Slice('v5e:2x2', GENERATIONS['v5e'], devices=jax.devices()[:4])
  result = forecast(compiled(PROGRAM), flops=1e6, on=on)
  computing, sending = 730 / 1.5e9, (7 * 2 + 1) * 4 * 128 * 2 / 200e9
  assert result['seconds'] == pytest.approx(
    {
      'computing': computing,
      'sending': sending,
      'between_slices': 0,
      'total': computing + sending,
    }
  )
  assert result['mfu'] == pytest.approx(1e6 / (computing + sending) / (4 * 197e12))
  assert result['memory']['peak_gib'] == 3 + 2 + 2 - 1
  assert result['memory']['fits']


def test_at_the_roofline_a_program_moves_or_sends():
  # Every turn of the loop reads and writes 4x128 bfloat16; the last fusion 4 of them and 8 float32.
  moving, sending = (7 * 2 * 1024 + 8 + 32) / (0.72 * 819e9), 15 * 1024 / 200e9
  chip = GENERATIONS['v5e']
  for links, expected in ((chip.links, sending), (100 * chip.links, moving)):
    generation = dataclasses.replace(chip, links=links)
    on = Slice('v5e:2x2', generation, devices=jax.devices()[:4])
    result = forecast(compiled(PROGRAM), flops=1e6, on=on)['roofline']
    assert result['total'] == pytest.approx(expected)
    assert result['mfu'] == pytest.approx(1e6 / expected / (4 * 197e12))


def test_what_there_is_no_estimate_of_is_named_and_left_out():
  on = Slice('v5e:2x2', GENERATIONS['v5e'], devices=jax.devices()[:4])
  text = PROGRAM.replace('"estimated_cycles":"30"', f'"estimated_cycles":"{2**63 - 1}"')
  result = forecast(compiled(text), flops=1e6, on=on)
  assert result['seconds']['computing'] == pytest.approx(700 / 1.5e9)
  assert list(result['not_in_seconds']) == ['fusion.2']


def test_a_program_that_is_too_large_says_what_makes_it_smaller():
  on = Slice('v5e:2x2', GENERATIONS['v5e'], devices=[])
  with pytest.raises(ValueError, match='It does not fit v5e:2x2: Ran out of 16G'):
    with fitting(on):
      raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Ran out of 16G.\nMore.')
  with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'), fitting(on):
    raise jax.errors.JaxRuntimeError('INTERNAL: a defect')
