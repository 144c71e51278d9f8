"""Mistakes in the options of Apache Beam; its results are compared in `test_progress`."""

import pytest

from core.errors import UserError
from data import beam


def test_options_that_beam_does_not_know_are_refused():
  pytest.importorskip('apache_beam')
  beam.require('DirectRunner', '--direct_num_workers=2')
  beam.require('FlinkRunner', '--of_its_job_service=2')
  for options, reason in {
    '--direct_num_wokers=2': 'DirectRunner has no options --direct_num_wokers=2',
    '--direct_num_workers=2 more': 'DirectRunner has no options more',
    '--direct_num_workers=two': "argument --direct_num_workers: invalid int value: 'two'",
    '"': 'No closing quotation',
  }.items():
    with pytest.raises(UserError) as caught:
      beam.require('DirectRunner', options)
    message = str(caught.value)
    assert message == f'Got --beam_runner=DirectRunner --beam_options={options}: {reason}'
  with pytest.raises(ValueError, match='Got --beam_runner=Nonesuch --beam_options=: '):
    beam.require('Nonesuch', '')
