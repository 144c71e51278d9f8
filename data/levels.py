"""Pixels of every kind that Pillow reads, by the full range of their kind: black to white."""

import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageOps

from core.errors import UserError

Tell = Callable[[str], None]

MIDDLE = 0.5  # a mask is white above this share of white
TINT = 32  # of 255: a palette whose red, green and blue differ by more has colours
_BITS, _WHITE_IS_ZERO, _SAMPLES = 258, 262, 339  # tags of TIFF
_UNSIGNED = 1
_SCALED = ('JPEG2000', 'PNG', 'PPM')  # formats whose integers Pillow scales to 16 bits
_PREMULTIPLIED = {'La': 'LA', 'RGBa': 'RGBA'}


def rgb(image: Image.Image, path: pathlib.Path, tell: Tell) -> UInt8[np.ndarray, 'h w 3']:
  """The picture, upright, in 8 bits.

  16 bits are scaled by their range, whatever values are in it; floats are from 0, black, to 1.

  tell: is called with what is lost, which is alpha.  ValueError where it is not known which value
  is white: for floats beyond 0 to 1, and for integers of 32 bits or with a sign.
  """
  upright = _upright(image, path)
  if _has_alpha(image):
    tell(f'{path}: its alpha is dropped.')
  if _is_deep(image):
    values = _shares(np.asarray(upright), image, path)
    upright = Image.fromarray(np.rint(255 * values).astype(np.uint8))
  elif _has_alpha(image):
    upright = _with_alpha(upright)
  return np.asarray(upright.convert('RGB'))


def white(image: Image.Image, path: pathlib.Path, tell: Tell) -> Bool[np.ndarray, 'h w']:
  """Where a mask, upright, is white: above the middle of the range of its kind of values.

  But in a mask of integers 0 and 1 alone, as arrays of bool are saved, 1 is white.  A palette is
  looked up, unless it has colours for labels above a black 0, as annotations have: then all labels
  but 0 are white.  What is transparent is as dark as if it lay on black.

  tell: is called with what was taken otherwise than by its brightness.  The errors are of `rgb`.
  """
  upright = _upright(image, path)
  if image.mode == 'P' and _is_of_labels(image):
    tell(f'{path}: its palette has colours: read as labels, of which all but 0 are white.')
    return np.asarray(upright) != 0
  if _is_deep(image):
    values = np.asarray(upright)
    if image.mode != 'F' and is_of_ones(values):
      tell(f'{path}: its values are 0 and 1, of which 1 is white.')
      return values == 1
    return _shares(values, image, path) > MIDDLE
  alpha = 1.0
  if _has_alpha(image):
    upright = _with_alpha(upright)
    alpha = np.asarray(upright.getchannel('A')) / 255
    if alpha.min() < 1:
      tell(f'{path}: what is transparent in it counts as black.')
  gray = np.asarray(upright.convert('RGB').convert('L'))
  if is_of_ones(gray):
    tell(f'{path}: its values are 0 and 1, of which 1 is white.')
    gray = 255 * gray
  return gray * alpha / 255 > MIDDLE


def is_of_ones(values: np.ndarray) -> bool:
  """Whether integers are 0 and 1 alone, and 1 somewhere."""
  return bool(values.max() == 1 and values.min() >= 0)


def _upright(image, path) -> Image.Image:
  try:
    return ImageOps.exif_transpose(image)
  except Exception as error:  # Pillow raises whatever damage leads it to
    raise UserError(f'Cannot read the EXIF data of {path}: {error}.') from error


def _is_deep(image) -> bool:
  """Whether its one channel has more than 8 bits; Pillow itself would clip those."""
  return image.mode.startswith(('I', 'F'))


def _has_alpha(image) -> bool:
  return image.mode in ('LA', 'PA', 'RGBA', *_PREMULTIPLIED) or 'transparency' in image.info


def _with_alpha(image) -> Image.Image:
  return image.convert(_PREMULTIPLIED.get(image.mode, image.mode)).convert('RGBA')


def _is_of_labels(image) -> bool:
  palette = np.reshape(image.getpalette('RGB'), (-1, 3))
  used = palette[[index for _, index in image.getcolors() if index < len(palette)]]
  return bool(not palette[0].any() and (used.max(1) - used.min(1)).max(initial=0) > TINT)


def _shares(values: np.ndarray, image, path) -> Float[np.ndarray, 'h w']:
  """Values as shares of white.

  image: as it was opened: only there it is known what they mean.
  """
  if image.mode == 'F':
    levels = np.rint(255 * values.astype(float))
    if not ((levels >= 0) & (levels <= 255)).all():  # what rounding makes of 1 may be a little more
      raise UserError(
        f'{path} has floats from {values.min():g} to {values.max():g}; allowed are 0, which is '
        'black, to 1, which is white.'
      )
    shares = values.astype(float).clip(0, 1)
  else:
    shares = values / _full_range(image, path)
  # Pillow inverts those of 8 bits alone.
  inverted = image.format == 'TIFF' and image.tag_v2.get(_WHITE_IS_ZERO) == 0
  return 1 - shares if inverted else shares


def _full_range(image, path) -> int:
  """The integer that is white."""
  if image.format in _SCALED:
    return 2**16 - 1
  if image.format == 'TIFF':
    bits, kind = image.tag_v2[_BITS][0], image.tag_v2.get(_SAMPLES, (_UNSIGNED,))[0]
    if bits <= 16 and kind == _UNSIGNED:
      return 2**bits - 1
  raise UserError(
    f'{path} has integers of 32 bits or with a sign, of which it is not known how large white is; '
    'allowed are 8 and 16 bits without a sign, and floats from 0 to 1.'
  )
