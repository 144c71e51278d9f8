"""Datasets of TFDS by their names, such as `tfds:ucf101`, read without TensorFlow.

They have been prepared as ArrayRecord.  Their clips are features of the type `Video`, or images,
which are clips of one frame.  TFDS stores each frame as an encoded picture, and no times.
"""

import contextlib
import functools
import io
import os
import pathlib
import types
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from jaxtyping import Int
from PIL import Image
from tensorflow_datasets.core.features import video_feature
from tensorflow_datasets.proto import tf_example_pb2

from core.errors import UserError
from core.folder import new_file
from core.frame_size import Size, largest_side
from data import captions, integrity, lengths, pixel_values, sizes, transforms

PREFIX = 'tfds:'
TEXTS = ('caption', 'text')  # features that are captions
FORMAT = 'array_record'


def splits(source: str) -> list[str]:
  """The sorted names of the splits of a dataset; the only one of a dataset is 'train'."""
  names = sorted(_builder(source).info.splits)
  return names if len(names) > 1 else ['train']


class Named:
  """A data source, as `data.pipeline` defines it, of random windows of the clips of a dataset.

  A window is `frames` successive frames.  They are resized and cropped, and clips are left out, as
  in `dataset.Videos`.

  source: `tfds:` and the name, with a config and a version where TFDS needs them, as in
    `tfds:ucf101/ucf101_1:2.0.0`.
  split: if the dataset has only one split, 'train' is that one.
  template: where the dataset has labels and no captions, see `captions.of_label`.  Where it has
    neither, it is the caption of all clips.

  ValueError if it can't be found or read without TensorFlow, if it is unclear which of its features
  are the clips and the captions, and the errors of `dataset.Videos`.
  """

  def __init__(
    self,
    source: str,
    *,
    size: Size,
    frames: int,
    split: str = 'train',
    crop: str = 'center',
    shorter_side: int = 0,
    min_side: int = 0,
    template: str = '',
  ):
    builder = _builder(source)
    features, split = builder.info.features, _split(builder, source, split)
    self._clips = _clips_of(features, source)
    self._caption = _caption_of(features, source, template)
    integrity.require_complete(builder, split)
    # The encoded records, without the builder, which other processes could not open again.
    self._records = builder.as_data_source(split=split).data_source
    self._source, self._frames = source, frames
    self._uncropped = transforms.uncropped(size, shorter_side)
    self._crop = transforms.crop(crop, size, shorter_side)
    shapes = self._shapes(features[self._clips].shape, pathlib.Path(builder.data_dir), split)
    long = lengths.at_least(shapes[:, 0], frames, f'{source} ({split})')
    self._record_indices = sizes.at_least(
      largest_side(*shapes[long, 1:].T, size),
      long,
      f'clips of {source} ({split})',
      side=min(self._uncropped),
      min_side=min_side,
    )
    self.left_out = lengths.left_out(
      len(shapes) - len(long), len(long) - len(self._record_indices), frames, min_side
    )

  def __len__(self) -> int:
    return len(self._record_indices)

  def __getitem__(self, i: int) -> dict:
    """The example `i`, with the same window each time."""
    return self.draw(i, np.random.default_rng(i))

  def draw(self, i: int, rng: np.random.Generator) -> dict:
    """`{'video': uint8 't h w 3', 'caption': str}`, with a window drawn with `rng`."""
    index = int(self._record_indices[i])
    values = self._values(index)
    encoded = values[self._clips].bytes_list.value
    start = int(rng.integers(len(encoded) - self._frames + 1))
    try:
      frames = [self._frame(one) for one in encoded[start : start + self._frames]]
      caption = self._caption(values)
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
      raise UserError(f'{self._source}, record {index}: {error}') from error
    video = self._crop(np.stack(frames), rng)
    return {'video': np.ascontiguousarray(video), 'caption': caption}

  def _frame(self, encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
      pixels = pixel_values.rgb(image, pathlib.Path(self._source), lambda note: None)
    shape = transforms.covering(*pixels.shape[:2], self._uncropped)
    return transforms.resample(pixels[None], *shape)[0]

  def _values(self, index: int):
    """The features of a record by name, as TFDS stores them."""
    return tf_example_pb2.Example.FromString(self._records[index]).features.feature

  def _shapes(self, shape: Sequence, folder: pathlib.Path, split: str) -> Int[np.ndarray, 'n 3']:
    """Frames, height and width of each record.

    Where they differ, all records are read once, and the result is kept in the dataset's folder if
    it can be written.
    """
    count, path = len(self._records), folder / f'shapes-{split}.npz'
    *shape, _ = [1] * (4 - len(shape)) + [*shape]
    if None not in shape:
      return np.tile(np.array(shape), (count, 1))
    with contextlib.suppress(Exception):  # NumPy and zipfile raise many kinds; it is made again
      with np.load(path) as file:
        if len(kept := file['shapes']) == count:
          return kept
    bar = tqdm.tqdm(range(count), f'sizes of {self._source} ({split})', unit='record')
    shapes = np.array([self._shape(i) for i in bar])
    with contextlib.suppress(OSError), new_file(path) as file, file.open('wb') as opened:
      np.savez_compressed(opened, shapes=shapes)
    return shapes

  def _shape(self, index: int) -> tuple[int, int, int]:
    """Frames, height and width of a record, from the header of its first frame."""
    encoded = self._values(index)[self._clips].bytes_list.value
    try:
      with Image.open(io.BytesIO(encoded[0])) as image:
        turned = image.getexif().get(0x112, 1) > 4  # as `pixel_values.rgb` applies it
        width, height = image.size[:: -1 if turned else 1]
    except Exception as error:  # it has no frame, or Pillow raises one of many kinds of errors
      raise UserError(f'{self._source}, record {index}: {error}') from error
    return len(encoded), height, width


def _builder(source: str) -> tfds.core.DatasetBuilder:
  """The builder that reads the dataset, from its files alone.

  ValueError if TFDS does not find it as ArrayRecord.
  """
  name = source.removeprefix(PREFIX)
  folder = os.environ.get('TFDS_DATA_DIR') or tfds.core.constants.DATA_DIR
  prepare = (
    f'where TensorFlow is installed,  tfds build {name} --file_format={FORMAT} '
    f'--data_dir={folder}  prepares it.'
  )
  try:
    with _without_tensorflow():
      builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
  except Exception as error:  # TFDS raises many kinds of errors
    reason = str(error).split('\n')[0]
    raise UserError(
      f'Got the source {source!r}, which is not among the datasets in {folder} (TFDS_DATA_DIR): '
      f'{prepare}  TFDS says: {reason}'
    ) from error
  if builder.info.file_format.value != FORMAT:
    raise UserError(
      f'{builder.data_dir} has files of the format {builder.info.file_format.value}; allowed is '
      f'{FORMAT}: {prepare}'
    )
  return builder


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
  """A context in which TFDS reads the features of videos: it names their type by TensorFlow."""
  original = video_feature.tf
  video_feature.tf = types.SimpleNamespace(dtypes=types.SimpleNamespace(as_dtype=np.dtype))
  try:
    yield
  finally:
    video_feature.tf = original


def _split(builder: tfds.core.DatasetBuilder, source: str, split: str) -> str:
  names = sorted(builder.info.splits)
  if split == 'train' and len(names) == 1:
    return names[0]
  if split not in names:
    raise UserError(f'Got split={split!r}; {source} has {names}.')
  return split


def _clips_of(features, source: str) -> str:
  """The name of the feature that is a video, or if there is none an image."""
  for kind in (tfds.features.Video, tfds.features.Image):
    if names := _named(features, kind):
      if len(names) == 1 and features[names[0]].np_dtype == np.uint8:
        return names[0]
      break
  raise UserError(
    f'{source} has the features {_words(features)}; one Video or Image of 8 bits is needed.'
  )


def _caption_of(features, source: str, template: str):
  """A function from the values of a record to its caption."""
  texts, labels = (_named(features, t) for t in (tfds.features.Text, tfds.features.ClassLabel))
  if captioned := [name for name in TEXTS if name in texts]:
    return functools.partial(_text, captioned[0])
  if 'label' in labels or len(labels) == 1:
    label = 'label' if 'label' in labels else labels[0]
    captions.require_template(template, 'data.caption_template')
    return functools.partial(_described, label, features[label].names, template)
  if not template or captions.LABEL in template:
    raise UserError(
      f'{source} has the features {_words(features)}, none of which is a caption ({TEXTS}) or the '
      'only label; data.caption_template, without {label}, is then the caption of all clips.'
    )
  return functools.partial(_same, template)


def _text(name: str, values) -> str:
  return values[name].bytes_list.value[0].decode()


def _described(name: str, labels: Sequence[str], template: str, values) -> str:
  number = values[name].int64_list.value[0]
  if number < 0:  # as TFDS marks examples without one
    raise UserError(f'no label in {name!r}')
  return captions.of_label(labels[number], template)


def _same(template: str, values) -> str:
  return template


def _named(features, kind: type) -> list[str]:
  return [name for name, feature in features.items() if type(feature) is kind]


def _words(features) -> str:
  return ', '.join(
    f'{name}: {type(feature).__name__}' for name, feature in sorted(features.items())
  )
