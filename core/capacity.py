"""Limits on the size of a video file: by its format, by free memory and by free disk space."""

import bisect
import os
import pathlib
import shutil

import psutil
from PIL import Image

# The largest sides in pixels, by the formats GIF and WebP and by the encoder x264.
SIDES = {'.gif': 65_535, '.mp4': 16_384, '.webp': 16_383}
# The largest frame of H.264 in blocks of 16x16 pixels, at its highest level, 6.2 (ITU-T H.264,
# Table A-1); decoders need not support more.
BLOCKS = 139_264
# Pillow refuses to open larger images, as a protection against decompression bombs.
PILLOW_PIXELS = 2 * Image.MAX_IMAGE_PIXELS
# Memory that `core.video.write` needs, in bytes per pixel of one frame and per pixel of the video:
# the largest that was measured for 8 to 96 frames of 1536x1536 pixels, plus 10%.
MEMORY = {
  '.gif': (17, 1.3),
  '.mp4': (82, 0),
  '.npy': (9, 0),
  '.png': (9, 0),
  '.webp': (30, 4.5),
}


def fault(path: pathlib.Path, frames: int, height: int, width: int) -> str:
  """Why a video of this size can't be written to this path, or '' if it can.

  path: its extension must be one that `core.video` writes.
  """
  extension, pixels = path.suffix.lower(), height * width
  if max(height, width) > SIDES.get(extension, 2**31 - 1):
    return f'a side of {extension} has at most {SIDES[extension]:,} pixels'
  if extension == '.mp4' and -(-height // 16) * -(-width // 16) > BLOCKS:
    return f'a frame of H.264 has at most {BLOCKS:,} blocks of 16x16 pixels (level 6.2)'
  if extension in ('.gif', '.png', '.webp') and pixels > PILLOW_PIXELS:
    return f'Pillow opens at most {PILLOW_PIXELS:,} pixels'
  per_frame, per_video = MEMORY[extension]
  needed, free = pixels * (per_frame + per_video * frames), psutil.virtual_memory().available
  if needed > free:
    return f'that takes {_gib(needed)} of memory, and {_gib(free)} are free'
  if extension == '.npy' and 3 * frames * pixels > (free := _free(path)):
    return f'the file would have {_gib(3 * frames * pixels)}, and {_gib(free)} are free on the disk'
  return ''


def max_upscale(path: pathlib.Path, frames: int, height: int, width: int, upscale: int) -> int:
  """The largest factor up to `upscale` by which such a video can be enlarged, or 0 if none."""
  too_large = lambda factor: bool(fault(path, frames, factor * height, factor * width))
  return bisect.bisect_left(range(1, upscale + 1), True, key=too_large)


def _free(path: pathlib.Path) -> int:
  """The free bytes on the disk of a path, whose folder need not exist."""
  folder = path.absolute().parent
  while not os.path.exists(folder):
    folder = folder.parent
  return shutil.disk_usage(folder).free


def _gib(size: int | float) -> str:
  return f'{size / 2**30:,.1f} GiB'
