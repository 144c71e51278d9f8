"""What a user brings: images, videos and masks of any size, made to fit a model's frames.

By one of two rules, `FITS`, neither of which stretches.  'crop': frames are resized until they
cover what is wanted, and the middle is cut out.  'pad': they are resized until they are inside it,
and what is left is black.  A mask goes the same way as what it belongs to, by nearest neighbours,
so that it stays a mask.
"""

import contextlib
import pathlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from data import decode, transforms

Tell = Callable[[str], None]

FITS = ('crop', 'pad')
MIDDLE = 127  # a mask is white above this
LEAST = 0.5  # of a picture's shorter side, that of a square to train on


def read_image(path: pathlib.Path, tell: Tell) -> UInt8[np.ndarray, '1 h w 3']:
  """The image, upright, as a clip of one frame.

  tell: called with what is lost, which is alpha.  ValueError where Pillow can't read it.
  """
  with _opened(path) as image:
    if 'A' in image.getbands() or 'transparency' in image.info:
      tell(f'{path}: its alpha is dropped.')
      image = image.convert('RGBA')
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(('I', 'F')):  # Pillow clips instead of scaling
      deep = np.asarray(upright).astype(float)
      upright = Image.fromarray((255 * deep / max(deep.max(), 255)).astype(np.uint8))
    return np.asarray(upright.convert('RGB'))[None]


class Picture:
  """A source of one picture: squares of random size and place in it, all with one caption."""

  def __init__(self, path: pathlib.Path, caption: str, size: int, length: int = 1_000_000):
    self._picture = read_image(path, tell=lambda note: None)
    self._caption, self._size, self._length = caption, size, length

  def __len__(self) -> int:
    return self._length

  def draw(self, index, rng: np.random.Generator) -> dict:
    """`{'video': uint8 '1 h w 3', 'caption': str}`"""
    shortest = min(self._picture.shape[1:3])
    side = int(rng.integers(max(round(LEAST * shortest), 1), shortest + 1))
    square = transforms.random_crop(self._picture, side, rng)
    video = transforms.resample(square, self._size, self._size)
    return {'video': video, 'caption': self._caption}


def read_clip(
  path: pathlib.Path, *, frames: int, fps: float, longer: bool
) -> UInt8[np.ndarray, 't h w 3']:
  """So many frames of a video.

  ValueError where it can't be read, or has fewer; or has more, unless a `longer` one is let in, of
  which the first are taken.
  """
  # One more than are wanted tells whether there are more; a file that ends before that is fine.
  clip = decode.decode(_there(path), fps=fps)
  if len(clip) < frames or (len(clip) > frames and not longer):
    more = '' if longer or len(clip) < frames else ', or --clip=start for the first of them'
    raise ValueError(
      f'{path} has {len(clip)} frames at {fps:g} a second; allowed are {frames} '
      f'({frames / fps:g} seconds){", or more" if longer else ""}{more}.'
    )
  return clip[:frames]


def read_mask(
  path: pathlib.Path, like: UInt8[np.ndarray, 't h w 3'], *, fps: float
) -> Bool[np.ndarray, 't h w']:
  """Where an image or a video is white, as large and as long as the clip it belongs to.

  An image is for every frame.  ValueError where it can't be read, or a video has fewer frames.
  """
  t, h, w, _ = like.shape
  if _is_still(path):
    with _opened(path) as image:
      gray = np.asarray(ImageOps.exif_transpose(image).convert('L'))[None]
  else:
    gray = decode.decode(_there(path), fps=fps)[:t].mean(-1)
    if len(gray) < t:
      raise ValueError(f'The mask {path} has {len(gray)} frames; allowed are {t} or more, or one.')
  white = gray > MIDDLE
  rows, columns = (_nearest(n, m) for n, m in zip(white.shape[1:], (h, w)))
  return np.broadcast_to(white[:, rows[:, None], columns], (t, h, w))


def fitted(
  frames: UInt8[np.ndarray, 't h w c'], height: int, width: int, fit: str
) -> UInt8[np.ndarray, 't {height} {width} c']:
  """The frames at another size; see the head of this file."""
  inside = _inside(frames.shape[1:3], (height, width), fit)
  return _placed(transforms.resample(frames, *inside), height, width)


def fitted_mask(
  mask: Bool[np.ndarray, 't h w'], height: int, width: int, fit: str
) -> Bool[np.ndarray, 't {height} {width}']:
  """The mask at that size; false in what is padded."""
  inside = _inside(mask.shape[1:], (height, width), fit)
  rows, columns = (_nearest(n, m) for n, m in zip(mask.shape[1:], inside))
  return _placed(mask[:, rows[:, None], columns], height, width)


def _inside(shape, wanted, fit):
  """The height and width of frames before they are cropped or padded."""
  if fit not in FITS:
    raise ValueError(f'Got fit={fit!r}; allowed are {", ".join(FITS)}.')
  scales = [n / m for n, m in zip(wanted, shape)]
  scale = max(scales) if fit == 'crop' else min(scales)
  # One side is met exactly, whatever rounding says.
  return tuple(
    n if s == scale else max(round(m * scale), 1) for n, m, s in zip(wanted, shape, scales)
  )


def _placed(frames, height, width):
  """The middle of what is too large, and what is too small in the middle of nothing."""
  for axis, size in ((1, height), (2, width)):
    spare = frames.shape[axis] - size
    before = abs(spare) // 2
    if spare > 0:
      frames = frames.take(range(before, before + size), axis)
    else:
      border = [(0, 0)] * frames.ndim
      border[axis] = (before, -spare - before)
      frames = np.pad(frames, border)
  return frames


def _nearest(source, target):
  """For each of `target` pixels, the one of `source` whose centre is nearest to its own."""
  return ((np.arange(target) + 0.5) * source / target).astype(int)


@contextlib.contextmanager
def _opened(path):
  try:
    with Image.open(_there(path)) as image:
      image.load()
      yield image
  except UnidentifiedImageError as error:
    raise ValueError(f'{path} is not an image that Pillow can read.') from error
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:
    raise ValueError(f'Cannot read {path}: {error}.') from error


def _is_still(path):
  """Whether it is one picture; else it is a video, or nothing."""
  try:
    with Image.open(_there(path)) as image:
      return getattr(image, 'n_frames', 1) == 1
  except UnidentifiedImageError:
    return False


def _there(path):
  if not path.is_file():
    raise ValueError(f'There is no file {path}.')
  return path
