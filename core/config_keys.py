"""Mistakes in the configs of a command line: a file or a key that does not exist."""

import difflib
import pathlib
import re
from collections.abc import Iterator, Sequence

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

# What other projects call a key of this one.
SYNONYMS = {
  'batch_size': 'loader.batch',
  'checkpoint_every': 'save_every',
  'data_dir': 'data.source',
  'dataset': 'data.source',
  'eval_every': 'evaluate_every',
  'epochs': 'steps',
  'grad_accum': 'accumulate',
  'gradient_accumulation_steps': 'accumulate',
  'grad_clip': 'optim.clip',
  'guidance_scale': 'sampling.guidance',
  'image_size': 'data.size',
  'iterations': 'steps',
  'lr': 'optim.learning_rate',
  'max_grad_norm': 'optim.clip',
  'max_steps': 'steps',
  'num_frames': 'data.frames',
  'num_inference_steps': 'sampling.steps',
  'num_steps': 'steps',
  'num_workers': 'loader.workers',
  'optimizer': 'optim.name',
  'pretrained': 'init_from',
  'resolution': 'data.size',
  'train_steps': 'steps',
  'wandb': 'tracker.name',
  'warmup_steps': 'optim.warmup',
}


def missing_file(arguments: Sequence[str]) -> str:
  """Which file of a config on the command line does not exist, '' if none."""
  missing = [(name, path) for name, path in _paths(arguments) if not path.is_file()]
  return _wrong_file(*missing[0], 'there is no such file') if missing else ''


def no_stage(arguments: Sequence[str], error: Exception) -> str:
  """Which file of a config has no `get_config`, if that is what the error says; else ''."""
  for name, path in _paths(arguments):
    if path.is_file() and "no attribute 'get_config'" in str(error):
      return _wrong_file(name, path, 'it has no get_config')
  return ''


def _wrong_file(name: str, path: pathlib.Path, reason: str) -> str:
  own = stages(path.parent) if path.parent.is_dir() else []
  allowed = [file.as_posix() for file in own or stages(pathlib.Path('configs'))]
  choice = f'allowed are {", ".join(allowed)}, each' if allowed else 'allowed is a Python file,'
  return f'--{name}={path}: {reason}; {choice} with :SCALE behind it.'


def unknown_key(arguments: Sequence[str]) -> str:
  """Which key on the command line its config does not have, and the nearest key; '' if none."""
  for name, keys in _configs(arguments):
    for argument in arguments:
      written = re.match(rf'--?(?:no)?{name}\.([^=]+)', argument)
      if written and written.group(1) not in keys:
        hint = _hint(name, written.group(1), keys)
        return f'Unknown config key --{name}.{written.group(1)}{hint}'
  return ''


def unknown_flag(flag: str, arguments: Sequence[str]) -> str:
  """What a flag that does not exist may have meant of a config, '' if nothing."""
  group = flag.partition('.')[0]
  if group in _flags():
    return f'--{flag} needs --{group}=FILE.py:SCALE before it.'
  for name, keys in _configs(arguments):
    if key := _named(flag, keys):
      return f'Unknown flag --{flag}: did you mean --{name}.{key}?'
  return ''


def _hint(name: str, key: str, keys: Sequence[str]) -> str:
  if nearest := nearest_key(key, keys):
    return f': did you mean --{name}.{nearest}?'
  group = key.rpartition('.')[0]
  prefix = f'{group}.' if any(k.startswith(f'{group}.') for k in keys) else ''
  inside = {k.removeprefix(prefix).split('.')[0] for k in keys if k.startswith(prefix)}
  return f'; allowed are {", ".join(f"{prefix}{k}" for k in sorted(inside))}.'


def nearest_key(key: str, keys: Sequence[str]) -> str:
  """The key that was most likely meant, '' if none is near."""
  if name := _named(key, keys):
    return name
  group, _, name = key.rpartition('.')
  if group not in keys:
    if close := difflib.get_close_matches(key, keys, n=1, cutoff=0.6):
      return close[0]
    group = ''
  last_parts = {k.rpartition('.')[2]: k for k in keys if k.startswith(f'{group}.' if group else '')}
  close = difflib.get_close_matches(name, last_parts, n=1, cutoff=0.7)
  return last_parts[close[0]] if close else ''


def _named(key: str, keys: Sequence[str]) -> str:
  """The key with the same last part, or of which that is a synonym; '' if there is none."""
  name = key.rpartition('.')[2]
  same = [k for k in keys if k.rpartition('.')[2] == name]
  if same:
    return max(same, key=lambda k: difflib.SequenceMatcher(None, key, k).ratio())
  synonym = SYNONYMS.get(name, '')
  return synonym if synonym in keys else ''


def stages(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files in a folder that have the config of a stage, which takes the name of a scale."""
  takes_scale = re.compile(r'^def get_config\(\w', re.MULTILINE)
  return [
    path for path in sorted(folder.glob('*.py')) if takes_scale.search(path.read_text('utf-8'))
  ]


def flat_keys(config: ConfigDict, prefix: str = '') -> Iterator[str]:
  """The dotted names of all keys of a config, groups of keys too."""
  for key, value in config.items():
    yield f'{prefix}{key}'
    if hasattr(value, 'items'):
      yield from flat_keys(value, f'{prefix}{key}.')


def _configs(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
  """The name of each config flag on the command line, and the keys of its config."""
  for name, path in _paths(arguments):
    if path.is_file():
      yield name, list(flat_keys(flags.FLAGS[name].parser.parse(_values(arguments)[name])))


def _paths(arguments: Sequence[str]) -> Iterator[tuple[str, pathlib.Path]]:
  values = _values(arguments)
  for name in _flags():
    if name in values:
      yield name, pathlib.Path(values[name].split(':')[0])


def _flags() -> list[str]:
  """The names of the flags that take a config."""
  return [f for f in flags.FLAGS if isinstance(flags.FLAGS[f].parser, ConfigFileFlagParser)]


def _values(arguments: Sequence[str]) -> dict[str, str]:
  """The values of flags, written as `--name=value` or `--name value`."""
  values = {}
  for argument, following in zip(arguments, [*arguments[1:], '']):
    name, equals, value = argument.partition('=')
    if name.startswith('-'):
      values[name.lstrip('-')] = value if equals else following
  return values
