"""How large a video can be in a file of each format, in memory while it is written, and on disk."""

import bisect
import os
import pathlib
import shutil

import psutil
from PIL import Image

# Pixels of a side: of GIF's and WebP's numbers, and what x264 takes.
SIDES = {'.gif': 65_535, '.mp4': 16_384, '.webp': 16_383}
# Blocks of 16x16 pixels in a frame of H.264's highest level, 6.2 (ITU-T H.264, Table A-1): no
# decoder has to take more.
BLOCKS = 139_264
# More than these Pillow takes for an attack, and does not open the file again.
PILLOW_PIXELS = 2 * Image.MAX_IMAGE_PIXELS
# Bytes for each pixel of a frame, and of a video, while `core.video.write` encodes it: the most
# that was measured for 8 to 96 frames of 1536x1536 pixels, a tenth added.
MEMORY = {
  '.gif': (17, 1.3),
  '.mp4': (82, 0),
  '.npy': (9, 0),
  '.png': (9, 0),
  '.webp': (30, 4.5),
}


def fault(path: pathlib.Path, frames: int, height: int, width: int) -> str:
  """Why a video of this size can't be written to a file of this name; '' if it can.

  The extension is one of those that `core.video` writes.
  """
  extension, pixels = path.suffix.lower(), height * width
  if max(height, width) > SIDES.get(extension, 2**31 - 1):
    return f'a side of {extension} has at most {SIDES[extension]:,} pixels'
  if extension == '.mp4' and -(-height // 16) * -(-width // 16) > BLOCKS:
    return f'a frame of H.264 has at most {BLOCKS:,} blocks of 16x16 pixels (level 6.2)'
  if extension in ('.gif', '.png', '.webp') and pixels > PILLOW_PIXELS:
    return f'Pillow opens at most {PILLOW_PIXELS:,} pixels'
  of_frame, of_video = MEMORY[extension]
  needed, there = pixels * (of_frame + of_video * frames), psutil.virtual_memory().available
  if needed > there:
    return f'that takes {_gib(needed)} of memory, and {_gib(there)} are free'
  if extension == '.npy' and 3 * frames * pixels > (free := _free(path)):
    return f'the file would have {_gib(3 * frames * pixels)}, and {_gib(free)} are free on the disk'
  return ''


def most(path: pathlib.Path, frames: int, height: int, width: int, upscale: int) -> int:
  """The largest factor, up to `upscale`, by which such frames can be enlarged; 0 if none."""
  too_large = lambda factor: bool(fault(path, frames, factor * height, factor * width))
  return bisect.bisect_left(range(1, upscale + 1), True, key=too_large)


def _free(path: pathlib.Path) -> int:
  """The bytes free on the disk of a file, whose folder need not be there."""
  there = path.absolute().parent
  while not os.path.exists(there):
    there = there.parent
  return shutil.disk_usage(there).free


def _gib(size: int | float) -> str:
  return f'{size / 2**30:,.1f} GiB'
