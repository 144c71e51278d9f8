"""The autoencoder in a folder that `autoencoder.convert` wrote."""

import pathlib

import numpy as np

from autoencoder import kl
from autoencoder.network import Autoencoder
from core import files, weights
from core.errors import UserError
from core.params import nest
from core.typing import Params

SIZES = ('channels', 'units', 'latent_channels', 'groups', 'scaling')  # in `config.json`


def open_autoencoder(folder: pathlib.Path, dtype: str = 'float32') -> tuple[Autoencoder, Params]:
  """The network in a folder, and its parameters in float32, on the host.

  dtype: of convolutions and products.

  UserError if `autoencoder.convert` did not write the folder, or it is incomplete.
  """
  model, tensors = find(folder)
  params = {name: tensor.read().astype(np.float32) for name, tensor in tensors.items()}
  return model.clone(dtype=dtype), nest(params)


def find(folder: pathlib.Path) -> tuple[Autoencoder, dict[str, weights.Stored]]:
  """The network in a folder, and its tensors by name, not read yet; the errors are those of
  `open_autoencoder`."""
  path = folder / 'config.json'
  sizes = files.read_object(path)
  if sizes.keys() != {*SIZES}:
    raise UserError(f'{path} was not written by autoencoder.convert.')
  model = Autoencoder(**sizes | {'channels': tuple(sizes['channels'])})
  tensors = weights.find(folder)
  shapes = {name: [shape] for name, shape in kl.shapes(model).items()}
  weights.require(folder, tensors, shapes, 'an autoencoder of this config')
  return model, tensors
