"""Small pictures of clips, which are decoded within the limits of `processes` and of time."""

import functools
import io
import pathlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

from data import decode, processes

SIDE = 96  # pixels of the shorter side

Place = tuple[str, float]  # a file in the folder of videos, and seconds from its first frame


def jpegs(
  videos: pathlib.Path, places: Iterable[Place], workers: int, seconds: float
) -> dict[Place, bytes]:
  """The frames at these places as JPEG, without those that cannot be decoded.

  workers, seconds: of `processes.results`.
  """
  call = functools.partial(_jpeg, videos.absolute())
  results = processes.results(call, places, workers, seconds)
  return {place: data for place, data in results if isinstance(data, bytes)}


def _jpeg(videos: pathlib.Path, place: Place) -> bytes | None:
  """The frame at a place, or None where damage was found at another place when it was cut."""
  file, time = place
  shown = decode.pictures(videos / file, start=time, size=SIDE)
  try:
    pixels = next(shown)
  except (ValueError, StopIteration, MemoryError):
    return None
  finally:
    shown.close()
  jpeg = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(pixels)).save(jpeg, 'JPEG', quality=75)
  return jpeg.getvalue()
