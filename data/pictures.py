"""What a user brings: images, videos and masks of any size, made to fit a model's frames.

By one of two rules, `FITS`, neither of which stretches.  'crop': frames are resized until they
cover what is wanted, and the middle is cut out.  'pad': they are resized until they are inside it,
and what is left is black.  A mask goes the same way as what it belongs to, by nearest neighbours,
so that it stays a mask.
"""

import contextlib
import pathlib

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError

from core.errors import UserError
from data import decode, levels, transforms

FITS = ('crop', 'pad')
ANIMATIONS = ('AVIF', 'FLI', 'GIF', 'PNG', 'WEBP')  # formats of several pictures that are frames
PREVIEW = 254  # the tag of TIFF that says, by its last bit, that a page is one of another
LEAST = 0.5  # of a picture's shorter side, that of a square to train on


def read_image(path: pathlib.Path, tell: levels.Tell) -> UInt8[np.ndarray, '1 h w 3']:
  """The image, upright, as a clip of one frame; of an animation, or of pages, the first.

  tell: is called with what is lost, which is alpha, and the other frames.  ValueError where Pillow
  can't read it, and those of `levels.rgb`.
  """
  with _opened(path) as image:
    if (count := len(_frames(image, path))) > 1:
      tell(f'{path}: the first of its {count} frames is taken.')
    return levels.rgb(image, path, tell)[None]


class Picture:
  """A source of one picture: squares of random size and place in it, all with one caption.

  tell: as of `read_image`.  None is enlarged: a picture of fewer than `size` pixels on a side is a
  ValueError.
  """

  def __init__(
    self,
    path: pathlib.Path,
    caption: str,
    size: int,
    length: int = 1_000_000,
    *,
    tell: levels.Tell,
  ):
    self._picture = read_image(path, tell)
    height, width = self._picture.shape[1:3]
    if min(height, width) < size:
      raise UserError(
        f'{path} has {width} x {height} pixels; to train on it without enlarging it, at least '
        f'{size} are needed on each side.'
      )
    self._caption, self._size, self._length = caption, size, length

  def __len__(self) -> int:
    return self._length

  def draw(self, index, rng: np.random.Generator) -> dict:
    """`{'video': uint8 '1 h w 3', 'caption': str}`"""
    shortest = min(self._picture.shape[1:3])
    side = int(rng.integers(max(round(LEAST * shortest), self._size), shortest + 1))
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
  # One more than are wanted tells whether there are more.
  clip, damage = decode.beginning(_there(path), frames + (not longer), fps=fps)
  if len(clip) < frames or len(clip) > frames:
    has = f'{len(clip)} frames' if len(clip) < frames else f'more than {frames} frames'
    allowed = f'{frames} ({frames / fps:g} seconds){", or more" if longer else ""}'
    start = ', or --clip=start for the first of them' if len(clip) > frames else ''
    ends = f'  Its end: {damage}.' if damage else ''
    raise UserError(f'{path} has {has} at {fps:g} a second; allowed are {allowed}{start}.{ends}')
  return np.stack(clip)


def read_mask(
  path: pathlib.Path, like: UInt8[np.ndarray, 't h w 3'], *, fps: float, tell: levels.Tell
) -> Bool[np.ndarray, 't h w']:
  """Where an image or a video is white, as large and as long as the clip it belongs to.

  An image is for every frame.  The pages of a TIFF, where there are several of its size, are the
  frames of the clip; an animation is a video.  What is white is said in `levels.white`.

  tell: is called with a message if an exception of `levels.white` applies, if all pixels or none
    are white, and if the mask is stretched because its aspect ratio differs.

  ValueError if the file can't be read or has fewer frames; also the errors of `levels.white`.
  """
  t, h, w, _ = like.shape
  ends = ''
  if _is_video(path):
    frames, damage = decode.beginning(_there(path), t, fps=fps)
    gray = np.stack([np.rint(frame.mean(-1)).astype(np.uint8) for frame in frames])
    white = gray == 1 if levels.is_of_ones(gray) else gray > 255 * levels.MIDDLE
    enough, ends = len(white) == t, f'  Its end: {damage}.' if damage else ''
  else:
    white = _white(path, t, tell)
    enough = len(white) in (1, t)
  if not enough:
    raise UserError(
      f'The mask {path} has {len(white)} frames; allowed are {t} or more, or one.{ends}'
    )
  if not white.any():
    tell(f'{path} is white nowhere: nothing is made.  White is what is above half of the range.')
  if white.all():
    tell(f'{path} is white everywhere: all is made, and nothing kept.')
  if _differ(white.shape[1:], (h, w)):
    tell(
      f'{path} has {white.shape[2]} x {white.shape[1]} pixels, an aspect other than that of the '
      f'{w} x {h} it is for: it is stretched to fit.'
    )
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
    raise UserError(f'Got fit={fit!r}; allowed are {", ".join(FITS)}.')
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


def _differ(size, other) -> bool:
  """Whether the aspects of two sizes differ by more than rounding a side of either makes of it."""
  (h, w), (height, width) = size, other
  return abs(h * width - w * height) > max(h, w, height, width)


def _nearest(source, target):
  """For each of `target` pixels, the one of `source` whose centre is nearest to its own."""
  return ((np.arange(target) + 0.5) * source / target).astype(int)


@contextlib.contextmanager
def _opened(path):
  """The image in a file, whose first frame is read."""
  with contextlib.ExitStack() as stack:
    with _reading(_there(path)):
      image = stack.enter_context(Image.open(path))
      image.load()
    yield image


@contextlib.contextmanager
def _reading(path):
  """Makes one ValueError of the errors of Pillow, which raises whatever damage leads it to."""
  try:
    yield
  except UnidentifiedImageError as error:
    raise UserError(f'{path} is not an image that Pillow can read.') from error
  except Exception as error:
    raise UserError(f'Cannot read {path}: {error}.') from error


def _is_video(path):
  """Whether it is an animation, or nothing that Pillow knows: then it is a video, or nothing."""
  with _reading(_there(path)):
    try:
      with Image.open(path) as image:
        return image.format == 'MPEG' or (image.format in ANIMATIONS and image.n_frames > 1)
    except UnidentifiedImageError:
      return True


def _frames(image, path) -> list[int]:
  """The numbers of those pictures in a file which are frames.

  Of an animation they are all, and of a TIFF the pages that are as large as the first.  Further
  pictures in a JPEG, and layers of a PSD, are none.
  """
  with _reading(path):
    numbers = range(getattr(image, 'n_frames', 1))
    if image.format != 'TIFF':
      return list(numbers) if image.format in ANIMATIONS else [0]
    size, pages = image.size, []
    for number in numbers:
      image.seek(number)
      if number == 0 or (image.size == size and not image.tag_v2.get(PREVIEW, 0) & 1):
        pages.append(number)
    image.seek(0)
    image.load()
    return pages


def _white(path, count: int, tell: levels.Tell) -> Bool[np.ndarray, 'n h w']:
  """Where the frames in an image are white, of which so many are read at most."""
  masks, notes = [], []
  with _opened(path) as image:
    pages = _frames(image, path)
    if len(pages) > 1:
      notes.append(f'{path}: its {len(pages)} pages are taken as frames.')
    for page in pages[:count]:
      with _reading(path):
        image.seek(page)
        image.load()
      masks.append(levels.white(image, path, notes.append))
  for note in dict.fromkeys(notes):  # the same of every page
    tell(note)
  return np.stack(masks)


def _there(path):
  if path.is_dir():
    raise UserError(f'{path} is a folder; allowed is a file.')
  if not path.is_file():
    raise UserError(f'There is no file {path}.')
  return path
