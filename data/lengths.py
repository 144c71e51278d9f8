"""The lengths of a dataset's clips, which are recorded because they decide a clip's bucket.

Short clips can be left out by them.  An image is a clip of one frame.  Its length is 0 seconds.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from core.errors import UserError
from data import decode, sizes

FILE = 'lengths.npz'  # for each split, the seconds of every record, in order


def write(directory: pathlib.Path, seconds: Mapping[str, Sequence[float]]) -> None:
  """Writes the length of each record, by split, to the folder of a dataset."""
  np.savez_compressed(directory / FILE, **{s: np.array(n, float) for s, n in seconds.items()})


def long_enough(
  directory: str, metadata: Mapping, split: str, count: int, *, frames: int, fps: float
) -> sizes.Records:
  """The indices of the records that have at least `frames` frames at `fps`.

  metadata: the metadata of the dataset, with `shortest`, the seconds of its shortest clip.
  count: the number of records of the split.

  ValueError if there is none, or if the lengths can't be read.
  """
  if frames <= _frames(metadata['shortest'], fps):  # as usual: the file is not needed
    return range(count)
  of_records = available(directory, split, count, fps=fps)
  return at_least(of_records, frames, f'{directory} ({split}) at {fps:g} frames a second')


def available(directory: str, split: str, count: int, *, fps: float) -> Int[np.ndarray, ' n']:
  """How many frames each of the `count` records of a split has at `fps`, 1 or more.

  ValueError if the lengths can't be read.
  """
  seconds = sizes.recorded(directory, FILE, split, count, 'lengths')
  lengths, which = np.unique(seconds, return_inverse=True)
  return np.array([_frames(length, fps) for length in lengths.tolist()], int)[which]


def at_least(available: Int[np.ndarray, ' n'], frames: int, name: str) -> Int[np.ndarray, ' m']:
  """The indices of the clips that have `frames` frames, of which there are `available`.

  name: of the dataset, in the ValueError if there is none.
  """
  if available.max() < frames:
    images = ' (all are images)' if available.max() == 1 else ''
    raise UserError(
      f'Got data.frames={frames}; none of the {len(available)} clips of {name} is as long: allowed '
      f'are 1..{available.max()}{images}.'
    )
  return np.flatnonzero(available >= frames)


def left_out(short: int, small: int, frames: int, min_side: int) -> str:
  """How many clips are left out because they are short or small, in words; '' if none are."""
  reasons = {
    f'{short:,} have fewer than {frames} frames': short,
    f'{small:,} are smaller than data.min_side={min_side}': small,
  }
  counted = ', and '.join(reason for reason, count in reasons.items() if count)
  return f'{short + small:,} clips are left out: {counted}.' if counted else ''


def _frames(seconds: float, fps: float) -> int:
  return max(decode.available(seconds, fps), 1)
