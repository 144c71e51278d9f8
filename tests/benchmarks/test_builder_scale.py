"""The simulated files go through the whole builder, with every kind of result."""

from benchmarks import builder_scale


def test_simulated_files_are_written_left_out_and_measured():
  result = builder_scale.measured(100)
  assert result['reasons'] == {'cannot be decoded': 1, 'duplicate': 2, 'too short': 2}
  assert result['written'] == 95
  assert result['rows_a_second'] > 0
