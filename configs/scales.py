"""How a stage's configs are put together: its defaults, and the changes that each scale makes."""

from ml_collections import ConfigDict


def merge(*parts: dict) -> dict:
  """One nested dict of all parts.  A later part overrides the keys that it names, at any depth, and
  every other key keeps its value.

  ValueError if a key is a group of keys in one part and a single value in another.
  """
  merged = {}
  for part in parts:
    for key, value in part.items():
      if key in merged and isinstance(merged[key], dict) != isinstance(value, dict):
        raise ValueError(f'{key!r} is a group of keys in one part and a value in another.')
      if isinstance(value, dict):
        value = merge(merged.get(key, {}), value)
      merged[key] = value
  return merged


def at_scale(config: ConfigDict, scale: str, scales: dict[str, dict]) -> ConfigDict:
  """The config of a stage with the changes of a scale merged into it.

  scales: the changes by the name of the scale; all that the stage has.
  ValueError for another scale, and for changes to a key or a group that `base.py` does not have.
  """
  if scale not in scales:
    allowed = ', '.join(sorted(scales))
    raise ValueError(f'Stage {config.stage!r} has no scale {scale!r}; allowed are {allowed}.')
  changes = scales[scale]
  if unknown := sorted(changes.keys() - config.keys()):
    raise ValueError(f'Scale {scale!r} changes unknown keys: {", ".join(unknown)}.')
  config.update(changes)
  return config
