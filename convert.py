r"""Imports an image model of DeepFloyd IF, as a start for video models: docs/pretrained.md; or of
Stable Diffusion: docs/latent.md.

  python convert.py --from=IF-I-M-v1.0 --out=runs/if_m
  python convert.py --from=IF-I-M-v1.0/unet --text=runs/if_text --out=runs/if_m

The source is a pipeline or a U-Net in the format of diffusers, with weights in safetensors.  The
scheduler of a pipeline is read, its tokenizer and text encoder are converted to OUT/text, and the
autoencoder of Stable Diffusion to OUT/autoencoder.  OUT is a workdir from which training starts:

  python train.py --config=configs/t2v.py:if_m --config.init_from=OUT

  python convert.py --to_diffusers --from=runs/style --out=IF-I-M-in-style/unet

writes the image layers of a model of this project as a U-Net in the format of diffusers.
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import json
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from autoencoder import convert as autoencoder_convert
from configs import base, ssr_image, t2i
from configs import stable_diffusion as sizes
from configs.scales import at_scale
from core import command, files, weights
from core.folder import new_folder
from core.params import count, matches, names, nest
from core.typing import Params
from stunet import deepfloyd, stable_diffusion, torch_axes
from stunet.adapters import merge_adapters
from stunet.inflate import TEMPORAL
from stunet.unet import STUNet
from text import convert as text_convert
from text.clip import CLIPText
from text.t5 import T5Encoder
from training import checkpoint
from training.export import write_model

UNET, FILE = 'unet', 'diffusion_pytorch_model'
SCHEDULER = pathlib.Path('scheduler', 'scheduler_config.json')


def from_diffusers(source: pathlib.Path, out: pathlib.Path, text: str = '') -> int:
  """Writes a workdir for the U-Net or pipeline `source`; returns the number of parameters.

  text: the folder of a converted text encoder, if `source` has none.

  Each tensor is in memory once, in the dtype in which it is stored.

  ValueError if the model is neither of DeepFloyd IF nor a U-Net of Stable Diffusion, if a tensor is
  missing or not used, or if `out` exists; nothing is written then.
  """
  pipeline = (source / 'model_index.json').is_file()
  folder = source / UNET if pipeline else source
  unet = files.read_object(folder / 'config.json')
  latent = 'CrossAttnDownBlock2D' in unet.get('down_block_types', ())
  family, title = (stable_diffusion, 'Stable Diffusion') if latent else (deepfloyd, 'IF')
  try:
    model = family.model_config(unet)
  except (KeyError, ValueError) as error:
    missing = 'it has no ' if isinstance(error, KeyError) else ''
    raise UserError(
      f'{folder}/config.json is not of a U-Net of {title}: {missing}{error}'
    ) from error
  config = _latent_config(folder, unet) if latent else _pixel_config(folder, model)
  levels = len(model['channels'])  # time is not resampled in an image model
  config.model.update(model, temporal_strides=(1,) * levels, temporal_attentions=(0,) * levels)
  config.text.width = unet.get('encoder_hid_dim') or unet['cross_attention_dim']
  with new_folder(out) as incomplete:
    if pipeline and latent:
      autoencoder_convert.convert(source / 'vae', incomplete / 'autoencoder')
    if pipeline and not text:
      network = text_convert.convert(
        source / 'text_encoder', incomplete / 'text', source / 'tokenizer'
      )
      _require_encoder(source / 'text_encoder', network, CLIPText if latent else T5Encoder)
      text = out / 'text'
    config.text.source = str(pathlib.Path(text).resolve()) if text else ''
    params = _read(weights.find(folder), family, STUNet(**config.model), config.text.width)
    write_model(incomplete, config, params, 0)
  return count(params)


def to_diffusers(workdir: pathlib.Path, out: pathlib.Path) -> int:
  """Writes the image layers of a workdir's model as a U-Net of diffusers, with adapters merged;
  returns the number of parameters.

  ValueError if there is no model, if diffusers has no such network, or if `out` exists.
  """
  with new_folder(out) as incomplete:
    config, params, _ = checkpoint.load(workdir)
    config.model.temporal = False
    model = STUNet(**config.model)
    family = stable_diffusion if 'transformer' in model.attention else deepfloyd
    unet = family.unet_config(model, config.text.width, config.data.size)
    image = {n: p for n, p in names(merge_adapters(params)).items() if not matches(n, TEMPORAL)}
    stored_names = family.diffusers_names(model, image)
    tensors = ((stored_names[n], torch_axes.to_diffusers(np.asarray(p))) for n, p in image.items())
    (incomplete / 'config.json').write_text(json.dumps(unet, indent=2, sort_keys=True) + '\n')
    weights.write(incomplete, FILE, tensors)
  return sum(p.size for p in image.values())


def _require_encoder(folder: pathlib.Path, network: T5Encoder | CLIPText, kind: type) -> None:
  """UserError unless the text encoder that was converted from the folder is of this kind."""
  if not isinstance(network, kind):
    names_of = {T5Encoder: 'T5', CLIPText: 'CLIP'}
    raise UserError(
      f'{folder} is a {names_of[type(network)]}; the text encoder of this U-Net is a '
      f'{names_of[kind]}.'
    )


def _pixel_config(folder: pathlib.Path, model: Mapping[str, Any]) -> ConfigDict:
  """The config for a U-Net of DeepFloyd IF, with what the scheduler beside it says."""
  config = (ssr_image if model['noise_level_embedding'] else t2i).get_config('if_m')
  scheduler = folder.parent / SCHEDULER
  if scheduler.is_file():
    schedule, sampling = _scheduler(files.read_object(scheduler))
    config.schedule.update(schedule)
    config.sampling.update(sampling)
  return config


def _latent_config(folder: pathlib.Path, unet: Mapping[str, Any]) -> ConfigDict:
  """The config for a U-Net of Stable Diffusion, with what the scheduler beside it says."""
  config = base.get_config()
  config.stage, config.model.temporal = 't2i', False
  dense = unet.get('use_linear_projection', False)
  config = at_scale(config, 'sd', {'sd': sizes.SD21 if dense else sizes.SD15})
  size = unet.get('sample_size') or 64
  config.data.update(size=tuple(size) if isinstance(size, list) else size, frames=1)
  scheduler = folder.parent / SCHEDULER
  if scheduler.is_file():
    config.schedule.prediction = _latent_prediction(files.read_object(scheduler))
  return config


def _latent_prediction(scheduler: Mapping[str, Any]) -> str:
  schedule = {
    'num_train_timesteps': 1000,
    'beta_schedule': 'scaled_linear',
    'beta_start': 0.00085,
    'beta_end': 0.012,
  }
  predictions = {'epsilon': 'eps', 'v_prediction': 'v'}
  for key, wanted in schedule.items():
    if scheduler.get(key) != wanted:
      raise UserError(
        f'scheduler_config.json: {key} is {scheduler.get(key)!r}; in Stable Diffusion it is '
        f'{wanted!r}.'
      )
  prediction = scheduler.get('prediction_type', 'epsilon')
  if prediction not in predictions:
    allowed = ', '.join(predictions)
    raise UserError(
      f'scheduler_config.json: prediction_type is {prediction!r}; allowed are {allowed}.'
    )
  return predictions[prediction]


def _read(
  stored: Mapping[str, weights.Stored], family: ModuleType, model: STUNet, text_width: int
) -> Params:
  shapes = names(family.shapes(model, text_width))
  stored_names = family.diffusers_names(model, shapes)
  missing, extra = (
    set(stored_names.values()) - stored.keys(),
    stored.keys() - set(stored_names.values()),
  )
  if missing or extra:
    parts = (('missing', missing), ('not used', extra))
    lists = '; '.join(f'{title}: {", ".join(sorted(s))}' for title, s in parts if s)
    raise UserError(f'The tensors are not those of the config; {lists}.')
  params = {}
  # The largest first, so that memory freed for one tensor is large enough for the next.
  for name, shape in sorted(shapes.items(), key=lambda item: -item[1].size):
    tensor = stored[stored_names[name]]
    try:
      array = torch_axes.from_diffusers(tensor.read(), shape.shape)
    except ValueError as error:
      raise UserError(f'{tensor.path}: {tensor.name}: {error}') from error
    params[name] = jnp.asarray(array)
  return nest(params)


def _scheduler(scheduler: Mapping[str, Any]) -> tuple[dict, dict]:
  """The groups `schedule` and `sampling` for a `scheduler_config.json` of DDPMScheduler."""
  choices = {
    'num_train_timesteps': {1000: None},
    'beta_schedule': {'squaredcos_cap_v2': 'discrete_cosine'},
    'prediction_type': {'epsilon': 'eps', 'sample': 'x0', 'v_prediction': 'v'},
    'variance_type': {'learned_range': 'ddpm_learned', 'fixed_small': 'ddpm_small'},
  }
  defaults = {'prediction_type': 'epsilon', 'variance_type': 'fixed_small'}
  values = {}
  for key, allowed in choices.items():
    value = scheduler.get(key, defaults.get(key))
    if value not in allowed:
      raise UserError(f'scheduler_config.json: {key} is {value!r}; allowed are {list(allowed)}.')
    values[key] = allowed[value]
  threshold = 'static'
  if scheduler.get('thresholding') and scheduler.get('sample_max_value', 1.0) > 1:
    limits = scheduler.get('dynamic_thresholding_ratio', 0.995), scheduler['sample_max_value']
    if limits != (0.95, 1.5):
      raise UserError(
        f'scheduler_config.json: got dynamic_thresholding_ratio {limits[0]} and sample_max_value '
        f'{limits[1]}; allowed are 0.95 and 1.5.'
      )
    threshold = 'dynamic_if'
  elif not scheduler.get('thresholding') and not scheduler.get('clip_sample', True):
    raise UserError('scheduler_config.json: clip_sample is false; allowed is true.')
  schedule = {'schedule': values['beta_schedule'], 'prediction': values['prediction_type']}
  return schedule, {'sampler': values['variance_type'], 'threshold': threshold}


def _define_flags() -> None:
  flags.DEFINE_string(
    'from',
    None,
    'Folder of a pipeline or U-Net of diffusers, or with --to_diffusers a workdir.',
    required=True,
  )
  flags.DEFINE_string('out', None, 'New folder to write the result to.', required=True)
  flags.DEFINE_string(
    'text', '', 'Folder of a text encoder that python -m text.convert wrote, if --from has none.'
  )
  flags.DEFINE_boolean(
    'to_diffusers', False, 'Whether to convert a workdir to the format of diffusers instead.'
  )


def main() -> None:
  jax.config.update('jax_platforms', 'cpu')  # an accelerator has nothing to compute
  source, out = (pathlib.Path(flags.FLAGS[name].value) for name in ('from', 'out'))
  if flags.FLAGS.to_diffusers:
    n = to_diffusers(source, out)
  else:
    n = from_diffusers(source, out, flags.FLAGS.text)
  print(f'{out}: {n:,} parameters')


if __name__ == '__main__':
  _define_flags()
  command.run(main)
