"""Videos and captions as a TFDS dataset of ArrayRecord shards, written and read without TensorFlow.

A record holds a video's file as it is, since any other encoding would lose quality or take many
times the space, with its caption and what decoding it has found.
"""

import collections
import contextlib
import dataclasses
import io
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds

from core import unicode
from core.errors import UserError
from data import decode, integrity, sizes, transforms
from data import splits as by_split


@dataclasses.dataclass(frozen=True)
class Clip:
  """One record, except for the file's bytes."""

  file: str  # its path in the folder of videos
  caption: str
  split: str
  facts: decode.Facts


def write(videos: pathlib.Path, clips: Sequence[Clip], out: pathlib.Path, shards: int | None):
  """Writes the dataset of `clips`, files below `videos`, to the folder `out`, in their order.

  Each split has `shards` files, or as many as TFDS finds good.  More than clips are a ValueError.
  """
  by_split.require_clips(shards, collections.Counter(clip.split for clip in clips))
  tfds.disable_progress_bar()
  inner = out / 'tfds'  # TFDS puts the dataset below its name and version, beside its downloads
  builder = _Builder(videos, clips, data_dir=inner, file_format='array_record')
  config = tfds.download.DownloadConfig(num_shards=shards)
  with contextlib.redirect_stdout(io.StringIO()):  # it announces downloads; there are none
    builder.download_and_prepare(download_config=config)
  for file in pathlib.Path(builder.data_dir).iterdir():
    file.rename(out / file.name)
  shutil.rmtree(inner)
  of = {clip.split: [] for clip in clips}
  for clip in clips:
    of[clip.split].append((clip.facts.height, clip.facts.width))
  sizes.write(out, of)


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Videos with captions."""

  name = 'videos'
  VERSION = tfds.core.Version('1.0.0')
  code_path = None  # TFDS would look for checksums of downloads there

  def __init__(self, videos: pathlib.Path, clips: Sequence[Clip], **kwargs):
    self._videos, self._clips = videos, clips
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      'file': tfds.features.Text(),
      'video': tfds.features.Tensor(shape=(), dtype=np.object_),
      'caption': tfds.features.Text(),
      'frames': np.int64,
      'seconds': np.float64,
      'height': np.int64,
      'width': np.int64,
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description='Video files with captions, and what decoding the files has found.',
      features=tfds.features.FeaturesDict(features),
      metadata=tfds.core.MetadataDict(known(self._clips)),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    return {s: self._generate_examples(s) for s in sorted({c.split for c in self._clips})}

  def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
    for key, clip in enumerate(c for c in self._clips if c.split == split):
      facts = dataclasses.asdict(clip.facts)
      del facts['fault']
      video = (self._videos / clip.file).read_bytes()
      file = unicode.escaped(clip.file)
      yield key, {'file': file, 'video': video, 'caption': clip.caption, **facts}


def known(clips: Sequence[Clip]) -> dict[str, float | int]:
  """What a dataset knows of all its clips: `shortest`, in seconds, and what `sizes.least` says."""
  shortest = min(clip.facts.seconds for clip in clips)
  return {'shortest': shortest} | sizes.least([(c.facts.height, c.facts.width) for c in clips])


def splits(directory: str) -> list[str]:
  """The names of the splits of a dataset."""
  return sorted(integrity.open_builder(directory).info.splits)


class Videos:
  """A random-access source of windows of a dataset's clips, as `data.pipeline` reads it.

  A window is `frames` frames at `fps`, resized to `shorter_side`, or to `size` where it is 0, and
  cropped to a square of side `size`: see `transforms.CROPS`.  Where in time it lies is always
  drawn.  Clips of a shorter side below `min_side` are left out.  A ValueError where the split, the
  crop or a window as long as the shortest clip allows is not given, where a clip would be enlarged
  (see `sizes`), and where a file of the dataset is missing or cut short (see `integrity`).
  """

  def __init__(
    self,
    directory: str,
    *,
    size: int,
    frames: int,
    fps: float,
    split: str = 'train',
    crop: str = 'center',
    shorter_side: int = 0,
    min_side: int = 0,
  ):
    builder = integrity.open_builder(directory)
    if split not in builder.info.splits:
      raise UserError(f'Got split={split!r}; {directory} has {sorted(builder.info.splits)}.')
    longest = decode.available(builder.info.metadata['shortest'], fps)
    if not 1 <= frames <= longest:
      raise UserError(
        f'Got {frames} frames at {fps:g} a second; the shortest clip of {directory} allows '
        f'1..{longest}.'
      )
    integrity.require_whole(builder, split)
    self._records = builder.as_data_source(split=split)
    self._size, self._frames, self._fps = shorter_side or size, frames, fps
    self._crop = transforms.crop(crop, size, shorter_side)
    self._numbers = sizes.large_enough(
      directory,
      builder.info.metadata,
      split,
      len(self._records),
      side=self._size,
      min_side=min_side,
    )

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, i: int) -> dict:
    """The same window each time."""
    return self.draw(i, np.random.default_rng(i))

  def draw(self, i: int, rng: np.random.Generator) -> dict:
    """`{'video': uint8 't h w 3', 'caption': str}`, a window drawn with `rng`."""
    number = int(self._numbers[i])
    record = self._records[number]
    start = rng.uniform(0, max(record['seconds'] - self._frames / self._fps, 0))
    try:
      frames = decode.decode(
        record['video'], fps=self._fps, start=start, count=self._frames, size=self._size
      )
    except ValueError as error:  # it was decoded when the dataset was built
      raise UserError(f'{record["file"].decode()}, record {number}: {error}') from error
    video = self._crop(frames, rng)
    return {'video': np.ascontiguousarray(video), 'caption': record['caption'].decode()}
