"""The axes of parameters in torch, where output channels are first."""

from collections.abc import Sequence

import numpy as np

from core.errors import UserError


def to_diffusers(array: np.ndarray) -> np.ndarray:
  """The parameter with its axes in torch's order, output channels first; vectors are the same."""
  match array.ndim:
    case 4:
      return array.transpose(3, 2, 0, 1)
    case 3:
      return array[0]  # the learned vector of `AttentionPooling`
    case 2:
      return array.T
  return array


def from_diffusers(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """The inverse of `to_diffusers`, for a parameter whose shape here is `shape`.

  UserError where the array becomes one of another shape.
  """
  axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, range(array.ndim))
  ours = array[None] if len(shape) == 3 else array.transpose(*axes)
  if ours.shape != tuple(shape):
    raise UserError(f'Its shape is {array.shape}, which makes {ours.shape} and not {tuple(shape)}.')
  return ours
