import functools

import jax
import jax.numpy as jnp
import pytest
from jax.lax import conv_general_dilated

from tests.programs import PROGRAM
from training.hlo import instructions


def test_loops_are_multiplied_out_and_what_is_fused_counts_once():
  result = {i.name: i for i in instructions(PROGRAM)}
  assert set(result) == {'fusion.1', 'all-reduce.3', 'ag', 'fusion.2'}
  assert [result[name].turns for name in ('fusion.1', 'all-reduce.3', 'fusion.2')] == [7, 7, 1]
  assert sum(i.cycles * i.turns for i in result.values()) == 7 * 100 + 30


def test_of_collectives_the_bytes_count():
  result = {i.name: (i.kind, i.sent) for i in instructions(PROGRAM) if i.sent}
  assert result == {
    'all-reduce.3': ('all-reduce', 2 * 4 * 128 * 2),
    'ag': ('all-gather', 4 * 128 * 2),
  }


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


# ---- bytes

SLICES = """HloModule jit_step

%slice (table: f32[100,128], at: s32[], one: f32[1,128]) -> f32[1,128] {
  %table = f32[100,128]{1,0} parameter(0)
  %at = s32[] parameter(1)
  %one = f32[1,128]{1,0} parameter(2)
  %row = f32[1,128]{1,0} dynamic-slice(%table, %at, %at), dynamic_slice_sizes={1,128}
  ROOT %sum = f32[1,128]{1,0} add(%row, %one)
}

%update (table.1: f32[100,128], at.1: s32[], row.1: f32[1,128]) -> f32[100,128] {
  %table.1 = f32[100,128]{1,0} parameter(0)
  %at.1 = s32[] parameter(1)
  %row.1 = f32[1,128]{1,0} parameter(2)
  ROOT %new = f32[100,128]{1,0} dynamic-update-slice(%table.1, %row.1, %at.1, %at.1)
}

ENTRY %main (p: f32[100,128], i: s32[], one.1: f32[1,128]) -> f32[100,128] {
  %p = f32[100,128]{1,0} parameter(0)
  %i = s32[]{:S(2)} parameter(1)
  %one.1 = f32[1,128]{1,0:S(1)} parameter(2)
  %near = (f32[100,128]{1,0:S(1)}, f32[100,128]{1,0}, u32[]{:S(2)}) copy-start(%p)
  %done = f32[100,128]{1,0:S(1)} copy-done(%near)
  %doubled = f32[100,128]{1,0} add(%p, %p)
  %read = f32[1,128]{1,0} fusion(%doubled, %i, %one.1), kind=kLoop, calls=%slice
  ROOT %written = f32[100,128]{1,0} fusion(%doubled, %i, %read), kind=kLoop, calls=%update
}
"""


def test_bytes_are_those_of_the_memory_of_the_device_and_of_slices_alone():
  row = 128 * 4
  moved = {i.name: i.moved for i in instructions(SLICES)}
  assert moved == {
    'near': 100 * row,  # into the memory of the core, which does not count
    'doubled': 2 * 100 * row,  # an operand that is named twice is read once
    'read': 2 * row,  # one row is read, one is already in the core, and one is written
    'written': 2 * row,
  }


def test_copies_that_are_started_run_beside_other_instructions():
  assert [i.name for i in instructions(SLICES) if i.hidden] == ['near']


# ---- operations, against XLA's own count


def conv(x, k, **options):
  labels = ('NHWC', 'HWIO', 'NHWC')
  return conv_general_dilated(x, k, dimension_numbers=labels, **options)


def gradient(argument, f):
  return jax.grad(lambda *args: jnp.sum(f(*args)), argument)


PLAIN = functools.partial(conv, window_strides=(1, 1), padding='SAME')
STRIDED = functools.partial(conv, window_strides=(2, 2), padding='SAME')
DILATED = functools.partial(conv, window_strides=(1, 2), padding='VALID', rhs_dilation=(2, 1))
GROUPED = functools.partial(PLAIN, feature_group_count=2)
FRAMES, KERNEL = (3, 9, 8, 4), (3, 2, 4, 6)


@pytest.mark.parametrize(
  ('f', 'shapes'),
  [
    (PLAIN, (FRAMES, KERNEL)),
    (STRIDED, (FRAMES, KERNEL)),
    (DILATED, (FRAMES, KERNEL)),
    (GROUPED, (FRAMES, (3, 2, 2, 6))),
    (gradient(0, STRIDED), (FRAMES, KERNEL)),
    (gradient(1, STRIDED), (FRAMES, KERNEL)),
    (functools.partial(jnp.einsum, 'bij,bkj->bik'), ((2, 3, 5), (2, 7, 5))),
  ],
)
def test_products_and_convolutions_have_the_operations_that_xla_counts(f, shapes):
  lowered = jax.jit(f).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
  ours = sum(i.flops for i in instructions(lowered.as_text('hlo')))
  assert ours == lowered.cost_analysis()['flops']
