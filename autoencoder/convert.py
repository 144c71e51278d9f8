"""Converts an autoencoder from diffusers' format for `autoencoder.stored`, or back.

python -m autoencoder.convert --from=DIR --out=DIR
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import json
import pathlib

from absl import flags

from autoencoder import kl, stored
from autoencoder.network import Autoencoder
from core import command, files, weights
from core.folder import new_folder

FILE = 'diffusion_pytorch_model'  # diffusers' name of a file of weights
KIND = 'an AutoencoderKL of Stable Diffusion'


def convert(source: pathlib.Path, out: pathlib.Path) -> Autoencoder:
  """Writes the sizes and weights of the autoencoder in `source`, the folder `vae` of a pipeline of
  diffusers, to the new folder `out`; returns the network.

  Weights keep their dtype, and those of one output file are in memory at a time.

  UserError if `source` is another model, is incomplete, or has a tensor that would not be used.
  """
  config = files.read_object(source / 'config.json')
  try:
    model = kl.model_of(config)
  except (KeyError, TypeError, ValueError) as error:
    lacks = 'it lacks ' if isinstance(error, KeyError) else ''
    raise UserError(f'{source}/config.json is not of {KIND}: {lacks}{error}') from error
  shapes, tensors = kl.shapes(model), weights.find(source)
  theirs = {name: kl.stored_name(name, len(model.channels), tensors) for name in shapes}
  expected = {theirs[name]: kl.diffusers_shapes(shape) for name, shape in shapes.items()}
  weights.require(source, tensors, expected, KIND)
  with new_folder(out) as folder:
    sizes = {size: getattr(model, size) for size in stored.SIZES}
    (folder / 'config.json').write_text(json.dumps(sizes, indent=2) + '\n')
    arrays = (
      (name, kl.from_diffusers(tensors[theirs[name]].read(), shape))
      for name, shape in shapes.items()
    )
    weights.write(folder, 'model', arrays)
  return model


def to_diffusers(source: pathlib.Path, out: pathlib.Path, size: int = 512) -> Autoencoder:
  """Writes the autoencoder that `convert` wrote to `source` in diffusers' format; returns it.

  size: the side of the images of training in pixels, which diffusers' config has.
  """
  model, tensors = stored.find(source)
  with new_folder(out) as folder:
    text = json.dumps(kl.config_of(model, size), indent=2, sort_keys=True)
    (folder / 'config.json').write_text(text + '\n')
    levels = len(model.channels)
    arrays = (
      (kl.diffusers_name(name, levels), kl.to_diffusers(tensor.read()))
      for name, tensor in tensors.items()
    )
    weights.write(folder, FILE, arrays)
  return model


def _define_flags() -> None:
  # Not at import: a process has one set of flags, and importing this module must not add to it.
  flags.DEFINE_string(
    'from', None, 'Folder vae of a pipeline of diffusers, or with --to_diffusers of this project.',
    required=True,
  )  # fmt: skip
  flags.DEFINE_string('out', None, 'New folder to write the autoencoder to.', required=True)
  flags.DEFINE_boolean('to_diffusers', False, 'Whether to write the format of diffusers.')


def main() -> None:
  source, out = (pathlib.Path(flags.FLAGS[name].value) for name in ('from', 'out'))
  model = (to_diffusers if flags.FLAGS.to_diffusers else convert)(source, out)
  print(f'{out}: latents of {model.latent_channels} channels, {model.factor} times smaller')


if __name__ == '__main__':
  _define_flags()
  command.run(main)
