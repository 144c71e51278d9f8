"""Datasets opened whole: what is missing or cut short is said before anything is read of it."""

import json
import pathlib
from concurrent import futures

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from core.errors import UserError

FILES = ('dataset_info.json', 'features.json', 'metadata.json')
AT_ONCE = 32  # shards that are looked at: where disks are far away, each takes a while


def open_builder(directory: str) -> tfds.core.DatasetBuilder:
  """The builder that reads the dataset in a folder.

  ValueError, with the name of the file, where one that describes the dataset is missing or damaged.
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
  except Exception as error:  # whatever TFDS makes of JSON that is not its own
    reason = str(error).split('\n')[0]
    raise UserError(f'{directory} is not a dataset of data.builder: {reason}') from error


def require_whole(builder: tfds.core.DatasetBuilder, split: str) -> None:
  """Raises ValueError, with its name, for a shard of the split that is missing or cut short.

  The end of each file, which says how many records it has, is compared with what the dataset says
  of it; records are not read.
  """
  of = builder.info.splits[split]
  with futures.ThreadPoolExecutor(AT_ONCE) as pool:
    for fault in pool.map(_fault, map(str, of.filepaths), of.shard_lengths):
      if fault:
        raise UserError(f'{fault}; copy it again, or build the dataset again.')


def _fault(path: str, count: int) -> str:
  """What is wrong with a shard of so many records, '' if nothing is."""
  if not pathlib.Path(path).is_file():
    return f'There is no {path}, a shard of the dataset'
  reader = array_record_module.ArrayRecordReader(path)
  found = reader.num_records() if reader.ok() else -1
  try:
    reader.close()
  except RuntimeError as error:  # which is how the reader says what kept it from opening the file
    return f'{path} is damaged or cut short: {str(error) or "its end is missing"}'
  return '' if found == count else f'{path} has {found} records in place of {count}'
