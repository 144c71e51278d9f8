"""The user's images, videos and masks, read from files and resized to a model's frame size.

There are two ways to resize, `FITS`, and neither changes the aspect ratio.  'crop' resizes frames
until they cover the target size, and cuts out the middle.  'pad' resizes them until they fit inside
it, and fills the rest with black.  A mask is resized in the same way as its video, but by nearest
neighbours, so that it stays binary.
"""

import contextlib
import pathlib

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError

from core.errors import UserError
from core.frame_size import Size, height_width, largest_side, with_shorter_side
from data import decode, pixel_values, transforms

FITS = ('crop', 'pad')
ANIMATIONS = ('AVIF', 'FLI', 'GIF', 'PNG', 'WEBP')  # formats whose further pictures are frames
PREVIEW = 254  # the TIFF tag whose last bit marks a page as a preview of another page
MIN_CROP = 0.5  # the smallest random crop, as a fraction of the sides of the largest


def read_image(path: pathlib.Path, warn: pixel_values.Warn) -> UInt8[np.ndarray, '1 h w 3']:
  """The image, rotated upright, as a clip of one frame; of several frames or pages, the first.

  warn: is called with a message if an alpha channel or further frames are dropped.

  ValueError if Pillow can't read the file; also the errors of `pixel_values.rgb`.
  """
  with _opened(path) as image:
    if (count := len(_frames(image, path))) > 1:
      warn(f'{path}: only the first of its {count} frames is used.')
    return pixel_values.rgb(image, path, warn)[None]


def is_image(path: pathlib.Path) -> bool:
  """Whether a file, which has one frame, is an image and not a video.

  ValueError if it is a damaged image: FFmpeg shows what is left of a truncated JPEG.
  """
  try:
    with Image.open(path) as image:
      image.load()
      return not _moves(image)
  except UnidentifiedImageError:
    return False
  except Exception as error:  # Pillow raises many kinds of errors for damaged files
    raise UserError(f'{path}: damaged: {error}') from error


class Picture:
  """A data source of crops from one picture with one caption.  They have a random place and a
  random size of the aspect ratio of `size`, to which they are resized.

  warn: see `read_image`.

  ValueError if the picture is smaller than `size`, because crops would have to be enlarged.
  """

  def __init__(
    self,
    path: pathlib.Path,
    caption: str,
    size: Size,
    length: int = 1_000_000,
    *,
    warn: pixel_values.Warn,
  ):
    self._picture = read_image(path, warn)
    (height, width), (h, w) = self._picture.shape[1:3], height_width(size)
    if height < h or width < w:
      raise UserError(
        f'{path} has {width} x {height} pixels; to train on it without enlarging it, at least '
        f'{w} x {h} are needed.'
      )
    self._caption, self._size, self._length = caption, (h, w), length

  def __len__(self) -> int:
    return self._length

  def draw(self, index, rng: np.random.Generator) -> dict:
    """`{'video': uint8 '1 h w 3', 'caption': str}`"""
    largest = int(largest_side(*self._picture.shape[1:3], self._size))
    side = int(rng.integers(max(round(MIN_CROP * largest), min(self._size)), largest + 1))
    part = transforms.random_crop(self._picture, with_shorter_side(self._size, side), rng)
    video = transforms.resample(part, *self._size)
    return {'video': video, 'caption': self._caption}


def read_clip(
  path: pathlib.Path, *, frames: int, fps: float, longer: bool
) -> UInt8[np.ndarray, 't h w 3']:
  """The first `frames` frames of a video, at `fps`.

  longer: whether the video may have more frames.

  ValueError if the video can't be read, has fewer frames, or has more and `longer` is false.
  """
  # Whether there are more is found by decoding one more.
  clip, damage = decode.beginning(_existing_file(path), frames + (not longer), fps=fps)
  if len(clip) < frames or len(clip) > frames:
    has = f'{len(clip)} frames' if len(clip) < frames else f'more than {frames} frames'
    allowed = f'{frames} ({frames / fps:g} seconds){", or more" if longer else ""}'
    start = ', or --clip=start to use the first of them' if len(clip) > frames else ''
    ends = f'  Its end: {damage}.' if damage else ''
    raise UserError(f'{path} has {has} at {fps:g} a second; allowed are {allowed}{start}.{ends}')
  return clip


def read_mask(
  path: pathlib.Path, like: UInt8[np.ndarray, 't h w 3'], *, fps: float, warn: pixel_values.Warn
) -> Bool[np.ndarray, 't h w']:
  """Where an image or a video is white, with the size and length of the clip `like`.

  An image is the mask of every frame.  If a TIFF has several pages of one size, each page is the
  mask of one frame; an animation is a video.  `pixel_values.white` defines what is white.

  warn: is called with a message if an exception of `pixel_values.white` applies, if all pixels or
    none are white, and if the mask is stretched because its aspect ratio differs.

  ValueError if the file can't be read or has fewer frames; also the errors of `pixel_values.white`.
  """
  t, h, w, _ = like.shape
  ends = ''
  if _is_video(path):
    frames, damage = decode.beginning(_existing_file(path), t, fps=fps)
    gray = np.stack([np.rint(frame.mean(-1)).astype(np.uint8) for frame in frames])
    white = gray == 1 if pixel_values.is_binary(gray) else gray > 255 * pixel_values.THRESHOLD
    enough, ends = len(white) == t, f'  Its end: {damage}.' if damage else ''
  else:
    white = _white(path, t, warn)
    enough = len(white) in (1, t)
  if not enough:
    raise UserError(
      f'The mask {path} has {len(white)} frames; allowed are {t} or more, or one.{ends}'
    )
  if not white.any():
    warn(f'{path} has no white pixel, so nothing is generated; white is above half of its range.')
  if white.all():
    warn(f'{path} is white everywhere, so everything is generated and nothing is kept.')
  if _differ(white.shape[1:], (h, w)):
    warn(
      f'{path} has {white.shape[2]} x {white.shape[1]} pixels and its video {w} x {h}: the aspect '
      'ratios differ, so the mask is stretched to fit.'
    )
  rows, columns = (_nearest(n, m) for n, m in zip(white.shape[1:], (h, w)))
  return np.broadcast_to(white[:, rows[:, None], columns], (t, h, w))


def fitted(
  frames: UInt8[np.ndarray, 't h w c'], height: int, width: int, fit: str
) -> UInt8[np.ndarray, 't {height} {width} c']:
  """The frames, resized as the docstring of this file says for `fit`."""
  inside = _inside(frames.shape[1:3], (height, width), fit)
  return _cropped_or_padded(transforms.resample(frames, *inside), height, width)


def fitted_mask(
  mask: Bool[np.ndarray, 't h w'], height: int, width: int, fit: str
) -> Bool[np.ndarray, 't {height} {width}']:
  """The mask, resized in the same way; padding is false."""
  inside = _inside(mask.shape[1:], (height, width), fit)
  rows, columns = (_nearest(n, m) for n, m in zip(mask.shape[1:], inside))
  return _cropped_or_padded(mask[:, rows[:, None], columns], height, width)


def _inside(shape, wanted, fit):
  """The height and width to which frames are resized before they are cropped or padded."""
  if fit not in FITS:
    raise UserError(f'Got fit={fit!r}; allowed are {", ".join(FITS)}.')
  scales = [n / m for n, m in zip(wanted, shape)]
  scale = max(scales) if fit == 'crop' else min(scales)
  # One side is exactly the wanted one; rounding must not change it.
  return tuple(
    n if s == scale else max(round(m * scale), 1) for n, m, s in zip(wanted, shape, scales)
  )


def _cropped_or_padded(frames, height, width):
  """The frames, cropped to their middle or padded with zeros around it, to this size."""
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


def _differ(size, other) -> bool:
  """Whether two aspect ratios differ by more than the rounding of a side can explain."""
  (h, w), (height, width) = size, other
  return abs(h * width - w * height) > max(h, w, height, width)


def _nearest(source, target):
  """For each of `target` pixels, the index of the nearest of `source` pixels."""
  return ((np.arange(target) + 0.5) * source / target).astype(int)


@contextlib.contextmanager
def _opened(path):
  """Opens an image file and decodes its first frame."""
  with contextlib.ExitStack() as stack:
    with _reading(_existing_file(path)):
      image = stack.enter_context(Image.open(path))
      image.load()
    yield image


@contextlib.contextmanager
def _reading(path):
  """Turns any error into a UserError: Pillow raises many kinds of errors for damaged files."""
  try:
    yield
  except UnidentifiedImageError as error:
    raise UserError(f'{path} is not an image that Pillow can read.') from error
  except Exception as error:
    raise UserError(f'Cannot read {path}: {error}.') from error


def _is_video(path):
  """Whether a file is an animation, or has a format that Pillow does not know."""
  with _reading(_existing_file(path)):
    try:
      with Image.open(path) as image:
        return _moves(image)
    except UnidentifiedImageError:
      return True


def _moves(image) -> bool:
  return image.format == 'MPEG' or (image.format in ANIMATIONS and image.n_frames > 1)


def _frames(image, path) -> list[int]:
  """The indices of the pictures in a file that are frames.

  All pictures of an animation are frames, and so are the pages of a TIFF that are as large as the
  first.  Further pictures in a JPEG and layers of a PSD are not.
  """
  with _reading(path):
    indices = range(getattr(image, 'n_frames', 1))
    if image.format != 'TIFF':
      return list(indices) if image.format in ANIMATIONS else [0]
    size, pages = image.size, []
    for index in indices:
      image.seek(index)
      if index == 0 or (image.size == size and not image.tag_v2.get(PREVIEW, 0) & 1):
        pages.append(index)
    image.seek(0)
    image.load()
    return pages


def _white(path, count: int, warn: pixel_values.Warn) -> Bool[np.ndarray, 'n h w']:
  """Where the frames in an image file are white; at most `count` of them are read."""
  masks, warnings = [], []
  with _opened(path) as image:
    pages = _frames(image, path)
    if len(pages) > 1:
      warnings.append(f'{path}: its {len(pages)} pages are used as frames.')
    for page in pages[:count]:
      with _reading(path):
        image.seek(page)
        image.load()
      masks.append(pixel_values.white(image, path, warnings.append))
  for message in dict.fromkeys(warnings):  # every page may give the same one
    warn(message)
  return np.stack(masks)


def _existing_file(path):
  if path.is_dir():
    raise UserError(f'{path} is a folder; allowed is a file.')
  if not path.is_file():
    raise UserError(f'There is no file {path}.')
  return path
