"""Opens datasets, and checks that no file of one is missing or truncated before it is read."""

import json
import pathlib
from concurrent import futures

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from core.errors import UserError

FILES = ('dataset_info.json', 'features.json', 'metadata.json')
THREADS = 32  # that check shards, since network disks take long to answer


def open_builder(directory: str) -> tfds.core.DatasetBuilder:
  """The builder that reads the dataset in a folder.

  ValueError, with the name of the file, if a file that describes the dataset is missing or damaged.
  """
  for name in FILES:
    path = pathlib.Path(directory, name)
    if not path.is_file():
      raise UserError(f'There is no {path}; data.builder writes one with every dataset.')
    try:
      json.loads(path.read_text('utf-8'))
    except ValueError as error:
      raise UserError(f'{path} is damaged: {error}.') from error
  try:
    return tfds.builder_from_directory(directory)
  except Exception as error:  # TFDS raises many kinds of errors for JSON of another schema
    reason = str(error).split('\n')[0]
    raise UserError(f'{directory} is not a dataset of data.builder: {reason}') from error


def require_complete(builder: tfds.core.DatasetBuilder, split: str) -> None:
  """Raises ValueError, with the file's name, if a shard of the split is missing or truncated.

  The number of records in the footer of each file is compared with the metadata of the dataset;
  records are not read.
  """
  info = builder.info.splits[split]
  with futures.ThreadPoolExecutor(THREADS) as pool:
    for fault in pool.map(_fault, map(str, info.filepaths), info.shard_lengths):
      if fault:
        raise UserError(f'{fault}; copy it again, or build the dataset again.')


def _fault(path: str, count: int) -> str:
  """What is wrong with a shard that should have `count` records, or ''."""
  if not pathlib.Path(path).is_file():
    return f'There is no {path}, a shard of the dataset'
  reader = array_record_module.ArrayRecordReader(path)
  actual = reader.num_records() if reader.ok() else -1
  try:
    reader.close()
  except RuntimeError as error:  # raised on closing if the file could not be opened
    return f'{path} is damaged or truncated: {str(error) or "its end is missing"}'
  return '' if actual == count else f'{path} has {actual} records instead of {count}'
