r"""Imports an image model of DeepFloyd IF, which videos can be made of: docs/pretrained.md.

  python convert.py --from=IF-I-M-v1.0 --out=runs/if_m
  python convert.py --from=IF-I-M-v1.0/unet --text=runs/if_text --out=runs/if_m

A folder of a whole pipeline, as diffusers saves it, has a tokenizer and a text encoder, which are
converted to OUT/text, and a scheduler; one of a U-Net has neither.  Weights are safetensors.  OUT
is a workdir to start from: `train.py --config=configs/t2v.py:if_m --config.init_from=OUT`.

  python convert.py --to_diffusers --from=runs/style --out=IF-I-M-in-style/unet

writes the image half of a model of ours as a U-Net of diffusers.
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from configs import ssr_image, t2i
from core import command, weights
from core.folder import new_folder
from core.params import count, matches, names, nest
from core.typing import Params
from stunet import deepfloyd
from stunet.adapters import merge_adapters
from stunet.inflate import TEMPORAL
from stunet.unet import STUNet
from text import convert as text_convert
from training import checkpoint
from training.export import write_model

UNET, FILE = 'unet', 'diffusion_pytorch_model'


def from_diffusers(source: pathlib.Path, out: pathlib.Path, text: str = '') -> int:
  """Writes a workdir at `out` of the U-Net or the pipeline at `source`; returns its parameters.

  text: the text encoder, converted, where `source` has none.

  Tensors are in memory once, in the dtype in which they are stored.  ValueError where the model is
  not of DeepFloyd IF, where a tensor is missing or left over, and where `out` exists; nothing is
  left of it then.
  """
  pipeline = (source / 'model_index.json').is_file()
  folder = source / UNET if pipeline else source
  unet = _json(folder / 'config.json')
  try:
    model = deepfloyd.model_config(unet)
  except (KeyError, ValueError) as error:
    missing = 'it has no ' if isinstance(error, KeyError) else ''
    raise UserError(f'{folder}/config.json is not of a U-Net of IF: {missing}{error}') from error
  config = (ssr_image if model['noise_level_embedding'] else t2i).get_config('if_m')
  levels = len(model['channels'])  # of an image, whose time is never resampled
  config.model.update(model, temporal_strides=(1,) * levels, temporal_attentions=(0,) * levels)
  config.text.width = unet.get('encoder_hid_dim') or unet['cross_attention_dim']
  scheduler = folder.parent / 'scheduler' / 'scheduler_config.json'
  if scheduler.is_file():
    schedule, sampling = _scheduler(_json(scheduler))
    config.schedule.update(schedule)
    config.sampling.update(sampling)
  with new_folder(out) as incomplete:
    if pipeline and not text:
      text_convert.convert(source / 'text_encoder', incomplete / 'text', source / 'tokenizer')
      text = out / 'text'
    config.text.source = str(pathlib.Path(text).resolve()) if text else ''
    params = _read(weights.find(folder), STUNet(**config.model), config.text.width)
    write_model(incomplete, config, params, 0)
  return count(params)


def to_diffusers(workdir: pathlib.Path, out: pathlib.Path) -> int:
  """Writes the image half of the model in a workdir as a U-Net of diffusers, with adapters merged;
  returns its parameters.

  ValueError where there is no model, where diffusers has no such one, and where `out` exists.
  """
  with new_folder(out) as incomplete:
    config, params, _ = checkpoint.load(workdir)
    config.model.temporal = False
    model = STUNet(**config.model)
    unet = deepfloyd.unet_config(model, config.text.width, config.data.size)
    ours = {n: p for n, p in names(merge_adapters(params)).items() if not matches(n, TEMPORAL)}
    levels = len(model.channels)
    tensors = (
      (deepfloyd.diffusers_name(n, levels), deepfloyd.to_diffusers(np.asarray(p)))
      for n, p in ours.items()
    )
    (incomplete / 'config.json').write_text(json.dumps(unet, indent=2, sort_keys=True) + '\n')
    weights.write(incomplete, FILE, tensors)
  return sum(p.size for p in ours.values())


def _read(stored: Mapping[str, weights.Stored], model: STUNet, text_width: int) -> Params:
  shapes = names(deepfloyd.shapes(model, text_width))
  theirs = deepfloyd.diffusers_names(nest(shapes), len(model.channels))
  missing, extra = set(theirs.values()) - stored.keys(), stored.keys() - set(theirs.values())
  if missing or extra:
    parts = (('Missing', missing), ('left over', extra))
    listed = '; '.join(f'{title}: {", ".join(sorted(s))}' for title, s in parts if s)
    raise UserError(f'The tensors are not those of the config.  {listed}.')
  params = {}
  # The largest first: what is freed of one has room for the next.
  for name, shape in sorted(shapes.items(), key=lambda item: -item[1].size):
    tensor = stored[theirs[name]]
    try:
      array = deepfloyd.from_diffusers(tensor.read(), shape.shape)
    except ValueError as error:
      raise UserError(f'{tensor.path}: {tensor.name}: {error}') from error
    params[name] = jnp.asarray(array)
  return nest(params)


def _scheduler(scheduler: Mapping[str, Any]) -> tuple[dict, dict]:
  """What a `scheduler_config.json` of DDPMScheduler says of `schedule` and `sampling`."""
  choices = {
    'num_train_timesteps': {1000: None},
    'beta_schedule': {'squaredcos_cap_v2': 'discrete_cosine'},
    'prediction_type': {'epsilon': 'eps', 'sample': 'x0', 'v_prediction': 'v'},
    'variance_type': {'learned_range': 'ddpm_learned', 'fixed_small': 'ddpm_small'},
  }
  defaults = {'prediction_type': 'epsilon', 'variance_type': 'fixed_small'}
  found = {}
  for key, known in choices.items():
    value = scheduler.get(key, defaults.get(key))
    if value not in known:
      allowed = ', '.join(map(str, known))
      raise UserError(f'scheduler_config.json: {key} is {value!r}; allowed are {allowed}.')
    found[key] = known[value]
  threshold = 'static'
  if scheduler.get('thresholding') and scheduler.get('sample_max_value', 1.0) > 1:
    limits = scheduler.get('dynamic_thresholding_ratio', 0.995), scheduler['sample_max_value']
    if limits != (0.95, 1.5):
      raise UserError(
        f'scheduler_config.json: dynamic thresholding is of {limits[0]}, at most {limits[1]}; '
        'allowed are 0.95, at most 1.5.'
      )
    threshold = 'dynamic_if'
  elif not scheduler.get('thresholding') and not scheduler.get('clip_sample', True):
    raise UserError('scheduler_config.json: clip_sample is false; here samples are clipped.')
  schedule = {'schedule': found['beta_schedule'], 'prediction': found['prediction_type']}
  return schedule, {'sampler': found['variance_type'], 'threshold': threshold}


def _json(path: pathlib.Path) -> dict:
  if not path.is_file():
    raise UserError(f'There is no {path}.')
  try:
    found = json.loads(path.read_text('utf-8'))
  except ValueError as error:
    raise UserError(f'{path} is no JSON: {error}') from error
  if not isinstance(found, dict):
    raise UserError(f'{path} is not a JSON object.')
  return found


def _define_flags() -> None:
  flags.DEFINE_string('from', None, 'A folder of diffusers, or a workdir.', required=True)
  flags.DEFINE_string('out', None, 'A new folder.', required=True)
  flags.DEFINE_string('text', '', 'The text encoder, as python -m text.convert wrote it.')
  flags.DEFINE_boolean('to_diffusers', False, 'From a workdir to a folder of diffusers.')


def main() -> None:
  jax.config.update('jax_platforms', 'cpu')  # nothing is computed
  source, out = (pathlib.Path(flags.FLAGS[name].value) for name in ('from', 'out'))
  if flags.FLAGS.to_diffusers:
    n = to_diffusers(source, out)
  else:
    n = from_diffusers(source, out, flags.FLAGS.text)
  print(f'{out}: {n:,} parameters')


if __name__ == '__main__':
  _define_flags()
  command.run(main)
