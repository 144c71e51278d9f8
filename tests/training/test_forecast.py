import types

import jax
import pytest

from training.forecast import fitting, forecast, instructions
from training.slices import GENERATIONS, GIB, Slice

# As XLA writes a program with a loop of 7 turns and two collectives, one of them in the loop.
PROGRAM = """HloModule jit_step

%f.1 (param_0: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  ROOT %add.9 = f32[8]{0} add(%param_0, %param_0), backend_config={"estimated_cycles":"9999"}
}

%b.2 (state: (s32[], bf16[4,128])) -> (s32[], bf16[4,128]) {
  %state = (s32[], bf16[4,128]{1,0}) parameter(0)
  %x = bf16[4,128]{1,0} get-tuple-element(%state), index=1
  %fusion.1 = bf16[4,128] fusion(%x), calls=%f.1, backend_config={"estimated_cycles":"100"}
  %all-reduce.3 = bf16[4,128]{1,0} all-reduce(%fusion.1), replica_groups={{0,1}}
  ROOT %tuple.1 = (s32[], bf16[4,128]{1,0}) tuple(%state, %all-reduce.3)
}

%c.2 (state.1: (s32[], bf16[4,128])) -> pred[] {
  %state.1 = (s32[], bf16[4,128]{1,0}) parameter(0)
  ROOT %less = pred[] compare(%state.1, %state.1), direction=LT
}

ENTRY %main.5 (p: bf16[4,128]) -> f32[8] {
  %p = bf16[4,128]{1,0} parameter(0)
  %ag = (bf16[2,128]{1,0}, bf16[4,128]{1,0}) all-gather-start(%p), dimensions={0}
  %done = bf16[4,128]{1,0} all-gather-done(%ag)
  %while.4 = bf16[4] while(%done), condition=%c.2, body=%b.2, config={"known_trip_count":{"n":"7"}}
  ROOT %fusion.2 = f32[8] fusion(%while.4), calls=%f.1, backend_config={"estimated_cycles":"30"}
}
"""


def test_loops_are_multiplied_out_and_what_is_fused_counts_once():
  result = {i.name: i for i in instructions(PROGRAM)}
  assert set(result) == {'fusion.1', 'all-reduce.3', 'ag', 'fusion.2'}
  assert [result[name].turns for name in ('fusion.1', 'all-reduce.3', 'fusion.2')] == [7, 7, 1]
  assert sum(i.cycles * i.turns for i in result.values()) == 7 * 100 + 30


def test_of_collectives_the_bytes_count():
  result = {i.name: (i.kind, i.sent) for i in instructions(PROGRAM) if i.sent}
  assert result == {'all-reduce.3': ('all-reduce', 4 * 128 * 2), 'ag': ('all-gather', 4 * 128 * 2)}


BETWEEN = PROGRAM.replace(
  '  ROOT %tuple.1',
  '  %send = (f32[256,8]{1,0}, u32[], token[]) send(%x, %y), channel_id=2, is_host_transfer=true, '
  'frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}\n'
  '  ROOT %tuple.1',
)


def test_what_leaves_a_slice_is_given_in_bytes_and_not_in_seconds():
  on = Slice('2xv5e:2x2', GENERATIONS['v5e'], devices=jax.devices())
  one, two = (forecast(compiled(text), flops=1e6, on=on) for text in (PROGRAM, BETWEEN))
  assert two['collectives_bytes'] == one['collectives_bytes'] | {'between-slices': 7 * 256 * 8 * 4}
  assert two['seconds'] == one['seconds']
  assert one['not_in_seconds'].keys() == set()
  assert two['not_in_seconds'].keys() == {'send'}


UNTOLD = PROGRAM.replace(', config={"known_trip_count":{"n":"7"}}', '')


def test_a_loop_turns_as_often_as_its_condition_says():
  compare = '%state.1, %state.1), direction=LT'
  text = UNTOLD.replace(
    f'  ROOT %less = pred[] compare({compare}',
    f'  %n = s32[]{{:T(128)}} constant(5)\n  ROOT %less = pred[] compare({compare}',
  )
  result = {i.name: i for i in instructions(text)}
  assert result['fusion.1'].turns == 5


def test_a_loop_of_no_known_length_is_no_forecast():
  with pytest.raises(ValueError, match=r'does not say how often the loop while.4 turns'):
    list(instructions(UNTOLD))


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
  computing, sending = 730 / 1.5e9, 8 * 4 * 128 * 2 / 200e9
  assert result['seconds'] == pytest.approx(
    {'computing': computing, 'sending': sending, 'total': computing + sending}
  )
  assert result['mfu'] == pytest.approx(1e6 / (computing + sending) / (4 * 197e12))
  assert result['memory']['peak_gib'] == 3 + 2 + 2 - 1
  assert result['memory']['fits']


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
