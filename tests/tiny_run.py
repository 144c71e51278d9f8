"""The tiny run of `train.py` that its tests share."""

from benchmarks import runs
from tests.conftest import SMALL

PROMPT = 'a red circle growing on a black background'
CHANGES = runs.CHANGES | {
  'evaluate_batch': 2,
  'sample_prompts': (PROMPT,),
  'loader.batch': 2,
  'data.frames': 4,
  'scores.metrics': ('motion',),
  'scores.videos': 2,
}
SMALLEST = {f'model.{k}': v for k, v in (SMALL | {'attention': ('none',)}).items()}


def changed(config):
  """The config with the changes."""
  config.update_from_flattened_dict(CHANGES)
  return config
