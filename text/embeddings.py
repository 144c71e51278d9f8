"""Embeddings of the texts of a dataset, which `text.embed` writes and training reads.

    DATASET/embeddings/
      settings.json   the encoder, its settings, and what dataset and devices it was begun with
      captions/       the distinct captions of each shard of the dataset, a JSON string a line
      digests.npy     a digest of each distinct caption of the dataset, sorted
      parts/          the embeddings of the captions in this order, `part` of them in each file
      prompts/        files with one embedding each: of the empty text, and of prompts
      complete.json   numbers of captions and clips; it is written when all captions are embedded

A file of embeddings begins with the number of tokens of each of its texts (int32).  For each text
follow the embeddings of these tokens, `n d` numbers of `stored_dtype`, and the CRC-32 of their
bytes.  All numbers are little-endian.
"""

import dataclasses
import hashlib
import pathlib
import shlex
import zlib
from collections.abc import Callable, Collection, Sequence

import numpy as np
from jaxtyping import Shaped

from core import files
from core.errors import UserError
from core.folder import new_file
from text.encoder import fingerprint, open_network, tokenizer_file
from text.hashed import Encoder

FOLDER = 'embeddings'
PART = 64  # texts in a new file: what is lost of work that is killed
FILES_IN_FOLDER = 1000  # a single folder of many thousands of files is slow
CRC_BYTES = 4
DIGEST_BYTES = 16
DIGEST = np.dtype(f'S{DIGEST_BYTES}')  # numpy sorts it by its bytes


@dataclasses.dataclass(frozen=True)
class Settings:
  """All that determines the embedding of a text, and how it is stored."""

  weights: str  # a fingerprint of the weights and the sizes of T5
  tokenizer: str  # a digest of its file
  tokens: int
  width: int
  dtype: str
  stored_dtype: str
  mask_padding: bool
  part: int  # captions in a file, which does not change an embedding

  def differences(self, other: 'Settings') -> list[str]:
    """What differs in the other settings, for a message: `tokens=77, not 128`."""
    words = {'weights': 'other weights of T5', 'tokenizer': 'another tokenizer'}
    compared = [key for key in _FIELDS if key != 'part']
    pairs = {key: (getattr(self, key), getattr(other, key)) for key in compared}
    return [
      words.get(key, f'{key}={mine}, not {theirs}')
      for key, (mine, theirs) in pairs.items()
      if mine != theirs
    ]

  def size(self, count: int) -> int:
    """The bytes of the embedding of a text of `count` tokens."""
    return count * self.width * np.dtype(self.stored_dtype).itemsize


def encoder_settings(
  source: str, *, tokens: int, dtype: str, stored_dtype: str = '', mask_padding: bool = False
) -> Settings:
  """The settings of an encoder: the arguments are those of `open_encoder`.

  ValueError if `text.convert` did not write the folder `source`.
  """
  folder = pathlib.Path(source)
  model, tensors = open_network(folder, dtype)
  return Settings(
    weights=fingerprint(folder, tensors, '').hex(),
    tokenizer=files.digest([tokenizer_file(folder)]),
    tokens=tokens,
    width=model.width,
    dtype=dtype,
    stored_dtype=stored_dtype or dtype,
    mask_padding=mask_padding,
    part=PART,
  )


_FIELDS = [field.name for field in dataclasses.fields(Settings)]


def folder_of(dataset: pathlib.Path) -> pathlib.Path:
  """The folder of the embeddings of a dataset."""
  return dataset / FOLDER


def read_settings(folder: pathlib.Path) -> Settings:
  """The settings of the embeddings in a folder; ValueError if they are not there or damaged."""
  content = files.read_object(folder / 'settings.json')
  if content.keys() < {*_FIELDS}:
    raise UserError(f'{folder / "settings.json"} was not written by text.embed.')
  return Settings(**{key: content[key] for key in _FIELDS})


def digest(text: str) -> bytes:
  """The digest by which a text is found."""
  return hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=DIGEST_BYTES).digest()


def parts(count: int, part: int) -> list[range]:
  """The rows of each part of `count` captions."""
  return [range(first, min(first + part, count)) for first in range(0, count, part)]


def part_path(folder: pathlib.Path, number: int) -> pathlib.Path:
  """The file of a part of the captions."""
  return folder / 'parts' / f'{number // FILES_IN_FOLDER:04}' / f'{number:07}.bin'


def prompt_path(folder: pathlib.Path, text: str) -> pathlib.Path:
  """The file of a text that is not a caption, or need not be one."""
  return folder / 'prompts' / f'{digest(text).hex()}.bin'


def write(path: pathlib.Path, encode: Encoder, texts: Sequence[str], settings: Settings) -> None:
  """Writes the embeddings of texts to a file, which appears when it is complete."""
  embeddings, masks = encode(texts)
  dtype = np.dtype(settings.stored_dtype)
  path.parent.mkdir(parents=True, exist_ok=True)
  with new_file(path) as incomplete, incomplete.open('wb') as file:
    file.write(masks.sum(-1).astype('<i4').tobytes())
    for embedding, mask in zip(embeddings, masks):
      data = embedding[: mask.sum()].astype(dtype).tobytes()  # exact: the encoder has rounded them
      file.write(data + zlib.crc32(data).to_bytes(CRC_BYTES, 'little'))


def read(path: pathlib.Path, row: int, rows: int, settings: Settings) -> Shaped[np.ndarray, 'n d']:
  """The embedding of the text `row` of a file of `rows` texts: of its n tokens, and no padding.

  UserError if the file is missing or damaged.
  """
  try:
    with path.open('rb') as file:
      header = file.read(4 * rows).ljust(4 * rows, b'\0')  # a text of 0 tokens is damage
      counts = [int(n) for n in np.frombuffer(header, '<i4')]
      intact = all(1 <= n <= settings.tokens for n in counts)
      size = settings.size(counts[row]) if intact else 0
      file.seek(4 * rows + sum(settings.size(n) + CRC_BYTES for n in counts[:row]) * intact)
      data, crc = file.read(size), file.read(CRC_BYTES)
  except FileNotFoundError as error:
    raise UserError(f'There is no {path}; {_AGAIN}.') from error
  if not size or len(data) != size or zlib.crc32(data).to_bytes(CRC_BYTES, 'little') != crc:
    raise UserError(f'{path} is damaged or truncated; remove it, and {_AGAIN}.')
  return np.frombuffer(data, settings.stored_dtype).reshape(counts[row], settings.width)


_AGAIN = 'run text.embed again, which writes what is missing'
Place = tuple[pathlib.Path, int, int]  # the file of a text, its row there, and the number of rows


def open_embeddings(
  datasets: Sequence[pathlib.Path],
  texts: Collection[str],
  *,
  source: str,
  width: int,
  cache: str = '',
  **settings,
) -> Encoder:
  """An encoder of the captions of datasets, and of these texts, which reads what was stored.

  texts: must be stored too, with one of the datasets.
  source, width, settings: the arguments of `open_encoder`, whose encoder returns the same bits.
  cache: not used.

  UserError, which says what to do, if the embeddings are of another encoder or other settings, if
  captions were not embedded or the dataset has changed since, and if `texts` are missing.
  """
  expected = encoder_settings(source, **settings)
  if expected.width != width:
    raise UserError(f'Got width={width}; the embeddings of {source} have {expected.width}.')
  stores = [_open_store(dataset, source, expected) for dataset in datasets]
  folders = ', '.join(str(folder_of(dataset)) for dataset in datasets)

  def place(text):
    return next((at for store in stores if (at := store(text))), None)

  def command_for(missing):
    again = command(datasets[0], source, expected)
    return f'{again} {shlex.join(f"--prompt={text}" for text in missing)}'

  if missing := [text for text in dict.fromkeys(texts) if not place(text)]:
    raise UserError(
      f'{folders} has no embeddings of {len(missing)} prompts of this run.  What adds them:  '
      f'{command_for(missing)}'
    )

  def encode(texts):
    embeddings = np.zeros((len(texts), expected.tokens, width), np.float32)
    masks = np.zeros((len(texts), expected.tokens), bool)
    for embedding, mask, text in zip(embeddings, masks, texts):
      if not (at := place(text)):
        raise UserError(
          f'{folders} has no embedding of {text!r}.  What adds it: {command_for([text])}'
        )
      stored = read(*at, expected)
      embedding[: len(stored)], mask[: len(stored)] = stored, True
    return embeddings, masks

  return encode


def _open_store(
  dataset: pathlib.Path, source: str, expected: Settings
) -> Callable[[str], Place | None]:
  """Returns `place(text)`, which is None if the text is not stored with the dataset; the errors are
  those of `open_embeddings`."""
  folder, actual = folder_of(dataset), read_settings(folder_of(dataset))
  again = command(dataset, source, expected)
  if differ := actual.differences(expected):
    raise UserError(
      f'{folder} does not fit config.text: it has {", ".join(differ)}.  Change config.text, or '
      'remove the folder; the run then has T5 in memory, unless the captions are embedded again.  '
      f'What embeds them: {again}'
    )
  if not (folder / 'complete.json').exists():
    raise UserError(f'{folder} is incomplete.  What completes it:  {again}')
  if files.read_object(folder / 'settings.json').get('dataset') != dataset_digest(dataset):
    raise UserError(
      f'{dataset} has changed since its captions were embedded.  Remove {folder}.  What embeds '
      f'them again:  {again}'
    )
  digests = _read_digests(folder)

  def place(text):
    key = np.frombuffer(digest(text), DIGEST)
    index = int(np.searchsorted(digests, key)[0])
    if index < len(digests) and digests[index] == key[0]:
      number, row = divmod(index, actual.part)
      return part_path(folder, number), row, min(actual.part, len(digests) - index + row)
    path = prompt_path(folder, text)
    return (path, 0, 1) if path.exists() else None

  return place


def _read_digests(folder: pathlib.Path) -> np.ndarray:
  """The sorted digests of all captions, which stay on disk."""
  path, count = folder / 'digests.npy', files.read_object(folder / 'complete.json').get('captions')
  try:
    digests = np.load(path, mmap_mode='r')
  except FileNotFoundError as error:
    raise UserError(f'There is no {path}; {_AGAIN}.') from error
  except (EOFError, ValueError) as error:
    raise UserError(f'{path} is damaged: {error}; remove it, and {_AGAIN}.') from error
  if digests.dtype != DIGEST or digests.shape != (count,):
    raise UserError(f'{path} is not of {count} captions; remove it, and {_AGAIN}.')
  return digests


def command(dataset: pathlib.Path, source: str, settings: Settings) -> str:
  """The command that embeds the captions of a dataset with these settings."""
  words = [f'--dataset={dataset}', f'--encoder={source}', f'--tokens={settings.tokens}']
  words += [f'--dtype={settings.dtype}', f'--stored_dtype={settings.stored_dtype}']
  words += ['--mask_padding' if settings.mask_padding else '--nomask_padding']
  return shlex.join(['python', '-m', 'text.embed', *words])


def dataset_digest(dataset: pathlib.Path) -> str:
  """A digest of what a dataset says of its records: their number and bytes in each shard."""
  return files.digest([dataset / 'dataset_info.json'])
