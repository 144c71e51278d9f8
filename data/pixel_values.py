"""Pixels of every type that Pillow reads, scaled by the full range of their type."""

import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageOps

from core.errors import UserError

Warn = Callable[[str], None]

THRESHOLD = 0.5  # a mask is white where it is brighter than this share of white
TINT = 32  # of 255: a palette is coloured if red, green and blue differ by more than this
_BITS, _WHITE_IS_ZERO, _SAMPLES = 258, 262, 339  # tags of TIFF
_UNSIGNED = 1
_SCALED = ('JPEG2000', 'PNG', 'PPM')  # formats whose integers Pillow scales to 16 bits
_PREMULTIPLIED = {'La': 'LA', 'RGBa': 'RGBA'}


def rgb(image: Image.Image, path: pathlib.Path, warn: Warn) -> UInt8[np.ndarray, 'h w 3']:
  """The picture, rotated upright, in 8 bits.

  16-bit values are scaled by the full range of 16 bits, and not by the largest value in the
  picture.  Floats range from 0, which is black, to 1, which is white.

  warn: is called with a message if an alpha channel is dropped.

  ValueError if it is unknown which value is white: for floats outside [0, 1], and for integers of
  32 bits or with a sign.
  """
  upright = _upright(image, path)
  if _has_alpha(image):
    warn(f'{path}: its alpha channel is dropped.')
  if _is_deep(image):
    values = _brightness(np.asarray(upright), image, path)
    upright = Image.fromarray(np.rint(255 * values).astype(np.uint8))
  elif _has_alpha(image):
    upright = _with_alpha(upright)
  return np.asarray(upright.convert('RGB'))


def white(image: Image.Image, path: pathlib.Path, warn: Warn) -> Bool[np.ndarray, 'h w']:
  """Where a mask, rotated upright, is white: brighter than half of the range of its type.

  There are three exceptions.  If a mask contains only the integers 0 and 1, as a saved bool array
  does, 1 is white.  If a palette is coloured and its entry 0 is black, as in segmentation maps,
  the values are labels and all labels except 0 are white.  A transparent pixel counts as if it lay
  on black.

  warn: is called with a message if an exception applies.  The errors are those of `rgb`.
  """
  upright = _upright(image, path)
  if image.mode == 'P' and _has_label_palette(image):
    warn(f'{path}: its palette is coloured: its values are labels, all white except 0.')
    return np.asarray(upright) != 0
  if _is_deep(image):
    values = np.asarray(upright)
    if image.mode != 'F' and is_binary(values):
      warn(f'{path}: its values are only 0 and 1, so 1 is white.')
      return values == 1
    return _brightness(values, image, path) > THRESHOLD
  alpha = 1.0
  if _has_alpha(image):
    upright = _with_alpha(upright)
    alpha = np.asarray(upright.getchannel('A')) / 255
    if alpha.min() < 1:
      warn(f'{path}: its transparent pixels count as black.')
  gray = np.asarray(upright.convert('RGB').convert('L'))
  if is_binary(gray):
    warn(f'{path}: its values are only 0 and 1, so 1 is white.')
    gray = 255 * gray
  return gray * alpha / 255 > THRESHOLD


def is_binary(values: np.ndarray) -> bool:
  """Whether integers are only 0 and 1, and at least one of them is 1."""
  return bool(values.max() == 1 and values.min() >= 0)


def _upright(image, path) -> Image.Image:
  try:
    return ImageOps.exif_transpose(image)
  except Exception as error:  # Pillow raises many kinds of errors for damaged files
    raise UserError(f'Cannot read the EXIF data of {path}: {error}.') from error


def _is_deep(image) -> bool:
  """Whether its single channel has more than 8 bits, which Pillow would clip instead of scale."""
  return image.mode.startswith(('I', 'F'))


def _has_alpha(image) -> bool:
  return image.mode in ('LA', 'PA', 'RGBA', *_PREMULTIPLIED) or 'transparency' in image.info


def _with_alpha(image) -> Image.Image:
  return image.convert(_PREMULTIPLIED.get(image.mode, image.mode)).convert('RGBA')


def _has_label_palette(image) -> bool:
  palette = np.reshape(image.getpalette('RGB'), (-1, 3))
  used = palette[[index for _, index in image.getcolors() if index < len(palette)]]
  return bool(not palette[0].any() and (used.max(1) - used.min(1)).max(initial=0) > TINT)


def _brightness(values: np.ndarray, image, path) -> Float[np.ndarray, 'h w']:
  """The values as shares of white, from 0 to 1.

  image: the image as it was opened, since only that has the format and its tags.
  """
  if image.mode == 'F':
    rounded = np.rint(255 * values.astype(float))
    if not ((rounded >= 0) & (rounded <= 255)).all():  # 1.0 may have become slightly more
      raise UserError(
        f'{path} has floats from {values.min():g} to {values.max():g}; allowed are 0 (black) to 1 '
        '(white).'
      )
    brightness = values.astype(float).clip(0, 1)
  else:
    brightness = values / _full_range(image, path)
  # Pillow inverts such images only if they have 8 bits.
  inverted = image.format == 'TIFF' and image.tag_v2.get(_WHITE_IS_ZERO) == 0
  return 1 - brightness if inverted else brightness


def _full_range(image, path) -> int:
  """The integer that stands for white."""
  if image.format in _SCALED:
    return 2**16 - 1
  if image.format == 'TIFF':
    bits, kind = image.tag_v2[_BITS][0], image.tag_v2.get(_SAMPLES, (_UNSIGNED,))[0]
    if bits <= 16 and kind == _UNSIGNED:
      return 2**bits - 1
  raise UserError(
    f'{path} has integers of 32 bits or with a sign, for which the value of white is unknown; '
    'allowed are unsigned integers of 8 and 16 bits, and floats from 0 to 1.'
  )
