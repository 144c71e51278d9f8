"""Datasets of TFDS for tests, with the features of its own, written without TensorFlow."""

import contextlib
import io
import types

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.features import feature, video_feature


def encoded(pixels, kind='PNG', **options):
  """A picture `h w c` as TFDS stores it."""
  file = io.BytesIO()
  Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(
    file, kind, **options
  )
  return file.getvalue()


@contextlib.contextmanager
def without_tensorflow():
  """A context in which features of videos are made and written; they use only types of it."""
  before = video_feature.tf, feature.tf
  video_feature.tf = feature.tf = types.SimpleNamespace(
    dtypes=types.SimpleNamespace(as_dtype=np.dtype, DType=np.dtype)
  )
  try:
    yield
  finally:
    video_feature.tf, feature.tf = before


def write(data_dir, dataset, features, examples, configs=()):
  """Writes a dataset called `dataset`, with `examples` by split, and returns its folder.

  features: a function that makes them.
  """

  class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Examples for tests."""

    name = dataset
    VERSION = tfds.core.Version('2.0.0')
    BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=config) for config in configs)
    code_path = None

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features()),
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager):
      return {split: iter(enumerate(some)) for split, some in examples.items()}

    def _generate_examples(self):
      raise NotImplementedError

  tfds.disable_progress_bar()
  with without_tensorflow(), contextlib.redirect_stdout(io.StringIO()):
    builder = Builder(data_dir=data_dir, file_format='array_record')
    builder.download_and_prepare()
  return builder.data_dir
