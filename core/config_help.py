"""What --help says about configs: the stages, their scales, and the keys that are used most."""

import pathlib
import runpy
import textwrap

from ml_collections import ConfigDict

from core import config_keys
from core.mistakes import ROOT

# The keys that most runs set, and what they are.  configs/base.py explains all keys.
KEYS = {
  'init_from': 'The run starts from the model in this workdir.',
  'steps': 'The run ends after this number of steps.',
  'data.source': "The dataset is this folder of data.builder, 'synthetic' or 'tfds:NAME'.",
  'data.size': 'Frames have this height and width, as (72,128), or are squares of this side.',
  'loader.batch': 'A step trains on this number of clips, on all devices together.',
  'loader.workers': 'The data are read by this number of processes.',
  'optim.learning_rate': 'The learning rate has this value after the warm-up.',
  'mesh': 'The devices are divided among these axes; -1 takes all that are left.',
  'accumulate': 'A batch is computed in this number of parts, which need less memory.',
  'model.remat': 'Activations are computed twice, which needs less memory.',
  'text.source': "Texts are encoded by the T5 in this folder, or by 'hashed' words.",
  'sample_prompts': 'The samples have these prompts.',
  'evaluate_every': 'The evaluation loss is computed after this number of steps.',
  'sample_every': 'Samples are written after this number of steps.',
  'save_every': 'A checkpoint is saved after this number of steps.',
  'tracker.name': "Metrics are also logged to 'wandb' or 'trackio'.",
}


def of_configs() -> str:
  """The stages and scales for --config, and the most used keys with their defaults."""
  stages = '\n'.join(map(_stage, config_keys.stages(ROOT / 'configs')))
  config = runpy.run_path(str(ROOT / 'configs' / 'base.py'))['get_config']()
  keys = '\n'.join(_key(name, about, config) for name, about in KEYS.items())
  return (
    f'stages and their scales, as in --config=configs/t2v.py:demo:\n{stages}\n\n'
    f'most used keys of a config, with the defaults that a scale may change:\n{keys}\n\n'
    'configs/base.py explains all keys, and configs/STAGE.py has the scales of a stage.'
  )


def _stage(path: pathlib.Path) -> str:
  contents = runpy.run_path(str(path))
  about = contents['__doc__'].strip().splitlines()[0]
  scales = ', '.join(contents.get('SCALES', ()))
  return f'  {path.relative_to(ROOT).as_posix()}: {about}\n      {scales}'


def _key(name: str, about: str, config: ConfigDict) -> str:
  value = config
  for part in name.split('.'):
    value = value[part]
  text = f'--config.{name}: {about} (default: {value!r})'
  return textwrap.fill(text, 100, initial_indent='  ', subsequent_indent=' ' * 6)
