"""Videos and captions as a TFDS dataset of ArrayRecord shards, written and read without TensorFlow.

A record contains a video's file unchanged, or a clip that `data.sources` cut from it, with its
caption, length, size, place in the source and scores.
"""

import array
import bisect
import collections
import contextlib
import dataclasses
import hashlib
import io
import itertools
import math
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import tensorflow_datasets as tfds

from core import unicode
from core.errors import UserError
from core.frame_size import Size
from data import buckets as of_shapes
from data import deadline, decode, filters, integrity, lengths, sizes, tfds_writer, transforms
from data import splits as by_split
from data.parts import Part

SECONDS = 300.0  # that a window may take to be decoded; `watchdog.data` is longer


@dataclasses.dataclass(frozen=True)
class Clip:
  """One record, except for the file's bytes."""

  file: str  # its path in the folder of videos
  caption: str
  split: str
  facts: decode.Facts  # of the clip as it is stored
  start: float = 0.0  # in seconds from the first frame of the file
  source_video: str = ''  # clips with the same one are in the same split
  captioner: str = ''  # the version of the program that wrote the caption, if one did
  scores: filters.Scores | None = None
  contents: str = ''  # the digest of the file when it was decoded
  stored: Callable[[], bytes] | None = None  # reads the clip; None if the file is stored unchanged


def write(videos: pathlib.Path, clips: Sequence[Clip], out: pathlib.Path, shards: int | None):
  """Writes a dataset of `clips`, files below `videos`, to the folder `out`, in this order.

  Each split has `shards` files; TFDS chooses their number if it is None.  More shards than clips
  are a ValueError.
  """
  by_split.require_clips(shards, collections.Counter(clip.split for clip in clips))
  tfds.disable_progress_bar()
  inner = out / 'tfds'  # TFDS writes to a folder of its own below this one
  builder = _Builder(videos, clips, data_dir=inner, file_format='array_record')
  config = tfds.download.DownloadConfig(num_shards=shards)
  with contextlib.redirect_stdout(io.StringIO()), tfds_writer.in_order():  # it prints, too
    builder.download_and_prepare(download_config=config)
  for file in pathlib.Path(builder.data_dir).iterdir():
    file.rename(out / file.name)
  shutil.rmtree(inner)
  pairs, seconds = {}, {}
  for clip in clips:
    size = clip.facts.height, clip.facts.width
    pairs.setdefault(clip.split, array.array('i')).extend(size)
    seconds.setdefault(clip.split, array.array('d')).append(clip.facts.seconds)
  sizes.write(out, {s: np.array(sides, np.int32).reshape(-1, 2) for s, sides in pairs.items()})
  lengths.write(out, seconds)


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
      'start': np.float64,
      'source_video': tfds.features.Text(),
      'captioner': tfds.features.Text(),
      'motion': np.float64,
      'frozen': np.float64,
      'black': np.float64,
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description='Clips with captions, lengths, sizes, places in their sources and scores.',
      features=tfds.features.FeaturesDict(features),
      metadata=tfds.core.MetadataDict(summary(self._clips)),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager) -> dict[str, Iterator]:
    return {s: self._generate_examples(s) for s in sorted({c.split for c in self._clips})}

  def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
    for key, clip in enumerate(c for c in self._clips if c.split == split):
      facts = dataclasses.asdict(clip.facts)
      del facts['fault']
      scores = dataclasses.asdict(clip.scores) if clip.scores else {}
      yield (
        key,
        {
          'file': unicode.escaped(clip.file),
          'video': _contents(self._videos, clip),
          'caption': clip.caption,
          'start': clip.start,
          'source_video': unicode.escaped(clip.source_video),
          'captioner': clip.captioner,
          **facts,
          **{name: scores.get(name, math.nan) for name in ('motion', 'frozen', 'black')},
        },
      )


def _contents(videos: pathlib.Path, clip: Clip) -> bytes:
  if clip.stored:
    return clip.stored()
  contents = (videos / clip.file).read_bytes()
  if clip.contents and hashlib.sha256(contents).hexdigest() != clip.contents:
    raise UserError(f'{videos / clip.file} has changed since it was decoded; build again.')
  return contents


def summary(clips: Sequence[Clip]) -> dict[str, float | int]:
  """The seconds of the shortest clip, and the smallest height and width, perhaps of others."""
  shortest, height, width = math.inf, math.inf, math.inf
  for facts in (clip.facts for clip in clips):
    shortest = min(shortest, facts.seconds)
    height, width = min(height, facts.height), min(width, facts.width)
  return {'shortest': shortest, 'least_height': height, 'least_width': width}


def splits(directory: str) -> list[str]:
  """The sorted names of the splits of a dataset."""
  return sorted(integrity.open_builder(directory).info.splits)


def shards(directory: str) -> dict[str, tuple[str, range]]:
  """The split and the records of each shard of a dataset, by a name such as `train-00003`.

  ValueError if a file of the dataset is missing or truncated.
  """
  builder = integrity.open_builder(directory)
  named = {}
  for split in sorted(builder.info.splits):
    integrity.require_complete(builder, split)
    first = 0
    for number, length in enumerate(builder.info.splits[split].shard_lengths):
      named[f'{split}-{number:05}'] = split, range(first, first + length)
      first += length
  return named


def captions(directory: str, split: str, records: range) -> Iterator[str]:
  """The captions of these records of a split."""
  source = integrity.open_builder(directory).as_data_source(split=split)
  for index in records:
    yield source[index]['caption'].decode()


class Videos:
  """A data source, as `data.pipeline` defines it, of random windows of a dataset's clips.

  A window is `frames` frames at `fps`, from a random start.  Frames are resized until they just
  cover the size `transforms.uncropped`, and cropped to `size`: see `transforms.CROPS`.  Clips that
  are shorter than a window are left out, and so are those that have fewer than `min_side` pixels,
  as `sizes.large_enough` says.  `left_out` says how many, or is ''.

  With `buckets` there are windows of several frames and sizes `t h w`, one for each clip, as
  `buckets.best` says: the examples of a bucket are one of the `parts`, in the order of buckets.
  Clips that are shorter than all of them are left out.

  ValueError if the split or the crop is unknown, if every clip is shorter than a window, if a clip
  would be enlarged (see `sizes`), or if a file of the dataset is missing or truncated (see
  `integrity`).
  """

  def __init__(
    self,
    directory: str,
    *,
    size: Size,
    frames: int,
    fps: float,
    split: str = 'train',
    crop: str = 'center',
    shorter_side: int = 0,
    min_side: int = 0,
    buckets: Sequence = (),
  ):
    shapes = of_shapes.shapes(buckets, size=size, frames=frames)
    builder = integrity.open_builder(directory)
    if split not in builder.info.splits:
      raise UserError(f'Got split={split!r}; {directory} has {sorted(builder.info.splits)}.')
    integrity.require_complete(builder, split)
    self._records = builder.as_data_source(split=split)
    self._fps = fps
    self._windows = [
      (t, transforms.uncropped((h, w), shorter_side), transforms.crop(crop, (h, w), shorter_side))
      for t, h, w in shapes
    ]
    count, least = len(self._records), min(t for t, _, _ in shapes)
    of_split = directory, builder.info.metadata, split, count
    long = lengths.long_enough(*of_split, frames=least, fps=fps)
    sides = [min(uncropped) for _, uncropped, _ in self._windows]
    if buckets:
      by_bucket = of_shapes.of_records(
        directory, split, count, long, shapes, sides=sides, min_side=min_side, fps=fps
      )
      self._record_indices = np.concatenate(by_bucket)
    else:
      self._record_indices = sizes.large_enough(
        *of_split, long, size=size, side=sides[0], min_side=min_side
      )
      by_bucket = [self._record_indices]
    self._ends = list(itertools.accumulate(map(len, by_bucket)))
    short, small = count - len(long), len(long) - len(self._record_indices)
    self.left_out = lengths.left_out(short, small, least, min_side)

  @property
  def parts(self) -> Sequence[Part]:
    """The examples of each bucket, without those that have none."""
    starts = [0, *self._ends]
    return [
      Part(self, range(start, end), Fraction(end - start, len(self)), bucket)
      for bucket, (start, end) in enumerate(itertools.pairwise(starts))
      if end > start
    ]

  def __len__(self) -> int:
    return len(self._record_indices)

  def __getitem__(self, i: int) -> dict:
    """The example `i`, with the same window each time."""
    return self.draw(i, np.random.default_rng(i))

  def window(self, i: int, rng: np.random.Generator) -> tuple[dict, float]:
    """The record of the example `i`, and the second at which a window drawn with `rng` begins."""
    record = self._records[int(self._record_indices[i])]
    count, _, _ = self._windows[self._bucket(i)]
    return record, rng.uniform(0, max(record['seconds'] - count / self._fps, 0))

  def _bucket(self, i: int) -> int:
    return bisect.bisect_right(self._ends, i)

  def draw(self, i: int, rng: np.random.Generator) -> dict:
    """`{'video': uint8 't h w 3', 'caption': str}`, with a window drawn with `rng`."""
    index = int(self._record_indices[i])
    record, start = self.window(i, rng)
    count, uncropped, crop = self._windows[self._bucket(i)]
    window = dict(fps=self._fps, start=start, count=count, size=uncropped)
    try:
      frames = deadline.within(SECONDS, lambda: decode.decode(record['video'], **window))
    except ValueError as error:  # the file was readable when the dataset was built
      raise UserError(f'{record["file"].decode()}, record {index}: {error}') from error
    return {'video': crop(frames, rng), 'caption': record['caption'].decode()}
