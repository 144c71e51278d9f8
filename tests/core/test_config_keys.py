"""Keys of configs that users of other projects write, and the keys that they mean."""

import pytest

from configs import t2v
from core.config_keys import SYNONYMS, flat_keys, nearest_key

KEYS = list(flat_keys(t2v.get_config('tiny')))


@pytest.mark.parametrize(
  ('wrong', 'meant'),
  [
    ('batch_size', 'loader.batch'),
    ('loader.batch_size', 'loader.batch'),
    ('lr', 'optim.learning_rate'),
    ('optim.lr', 'optim.learning_rate'),
    ('learning_rate', 'optim.learning_rate'),
    ('max_steps', 'steps'),
    ('model.chanels', 'model.channels'),
    ('loder.batch', 'loader.batch'),
    ('data.sizes', 'data.size'),
    ('frames', 'data.frames'),
    ('zzz', ''),
    ('optim.zzz', ''),
    ('steps.of', ''),
  ],
)
def test_the_nearest_key_is_what_was_meant(wrong, meant):
  assert nearest_key(wrong, KEYS) == meant


def test_a_synonym_is_of_a_key_that_exists_and_is_none_itself():
  assert set(SYNONYMS.values()) <= set(KEYS)
  assert not set(SYNONYMS) & {key.rpartition('.')[2] for key in KEYS}
