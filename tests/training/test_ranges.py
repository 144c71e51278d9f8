"""Every number of every config, at values beyond its range and at the ends of it."""

import math

import pytest

from configs import ssr, style, t2i, t2v, t2v_masked
from training import ranges
from training.ranges import require_in_range

CONFIGS = [stage.get_config('tiny') for stage in (t2i, t2v, t2v_masked, ssr, style)]


def keys(config, head=''):
  """The names of all that is no group."""
  for key, value in config.items():
    if hasattr(value, 'items'):
      yield from keys(value, f'{head}{key}.')
    else:
      yield head + key


def value(config, key):
  for part in key.split('.'):
    config = config[part]
  return config


def is_number(one):
  return isinstance(one, int | float) and not isinstance(one, bool)


def numbers(config):
  """The names of the numbers, and of those which are several."""
  for key in keys(config):
    setting = value(config, key)
    if is_number(setting) or (
      isinstance(setting, tuple) and setting and all(map(is_number, setting))
    ):
      yield key


NUMBERS = sorted({(key, i) for i, config in enumerate(CONFIGS) for key in numbers(config)})


def changed(i, key, number):
  """The config with another number there, the last where there are several."""
  config = CONFIGS[i].copy_and_resolve_references()
  was = value(config, key)
  config.update_from_flattened_dict(
    {key: (*was[:-1], number) if isinstance(was, tuple) else number}
  )
  return config


def refusal(config):
  with pytest.raises(ValueError, match='allowed') as error:
    require_in_range(config)
  return str(error.value)


def test_every_config_as_it_is_is_allowed():
  for config in CONFIGS:
    require_in_range(config)


def test_every_range_is_of_a_number_that_there_is():
  assert ranges.RANGES.keys() - {'model.out_channels'} <= {key for key, _ in NUMBERS} | {
    'model.patch'
  }


def test_every_number_beyond_its_range_is_refused_by_its_name():
  assert len(NUMBERS) > 300
  for key, i in NUMBERS:
    least, most = ranges.RANGES.get(key, ranges.OTHERS)
    whole = isinstance(value(CONFIGS[i], key), int | tuple)
    up, down = math.inf, -math.inf
    beyond = math.nextafter(least, down), math.nextafter(most, up), math.nan, up, down
    if whole:
      beyond = math.floor(least) - 1, math.ceil(most) + 1
    for number in beyond:
      assert refusal(changed(i, key, number)).startswith(f'Got {key}='), (key, number)


def test_the_ends_of_a_range_are_allowed():
  for key, i in NUMBERS:
    for end in ranges.RANGES.get(key, ranges.OTHERS):
      kind = float if isinstance(value(CONFIGS[i], key), float) else int
      require_in_range(changed(i, key, kind(end)))


def test_levels_without_a_size_are_refused():
  for sizes in ((), ('a', 'b'), (16, 'b')):
    config = CONFIGS[0].copy_and_resolve_references()
    config.model.channels = sizes
    message = f'Got model.channels={sizes}; allowed is one whole number or more, each 1 or more.'
    assert refusal(config) == message


@pytest.mark.parametrize(
  ('key', 'number', 'message'),
  [
    ('seed', -1, 'Got seed=-1; allowed is 0 to 4294967295.'),
    ('steps', -1, 'Got steps=-1; allowed is 0 or more.'),
    ('keep', 0, 'Got keep=0; allowed is 1 or more.'),
    ('ema_decay', 1.0, 'Got ema_decay=1.0; allowed is 0 to less than 1.'),
    ('optim.b2', 1.0, 'Got optim.b2=1.0; allowed is 0 to less than 1.'),
    ('optim.learning_rate', math.nan, 'Got optim.learning_rate=nan; allowed is 0 or more.'),
    ('data.fps', 0.0, 'Got data.fps=0.0; allowed is more than 0.'),
    (
      'model.channels',
      0,
      'Got model.channels=(16, 32, 0); allowed is one whole number or more, each 1 or more.',
    ),
    (
      'model.channels',
      8.5,
      'Got model.channels=(16, 32, 8.5); allowed is one whole number or more, each 1 or more.',
    ),
  ],
)
def test_what_is_allowed_is_said(key, number, message):
  assert refusal(changed(0, key, number)) == message
