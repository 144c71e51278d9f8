"""Embeds the captions of a dataset once, so that training needs no text encoder in memory.

python -m text.embed --dataset=DIR --encoder=DIR
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import array
import dataclasses
import json
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
import tqdm
from absl import flags

from core import command, files
from core.folder import new_file
from core.writable import require_folder
from data import dataset as datasets
from data import prompts as lists
from data.named import PREFIX
from text import embeddings
from text.embeddings import DIGEST, Settings, encoder_settings, part_path, prompt_path
from text.encoder import DTYPES, STORED_DTYPES, open_encoder
from text.hashed import Encoder

POLL = 2  # seconds between two looks at what other hosts have written


@dataclasses.dataclass(frozen=True)
class Captions:
  """The distinct captions of a dataset in the order of their digests, which stay on disk."""

  digests: np.ndarray  # of type DIGEST
  files: Sequence[pathlib.Path]
  file: np.ndarray  # the index in `files` of the file with the caption
  offset: np.ndarray  # of its line in that file, in bytes

  def read(self, index: int) -> str:
    """One caption."""
    with self.files[self.file[index]].open('rb') as file:
      file.seek(self.offset[index])
      return json.loads(file.readline())


def embed(
  dataset: pathlib.Path,
  source: str,
  *,
  tokens: int = 128,
  dtype: str = 'bfloat16',
  stored_dtype: str = '',
  mask_padding: bool = True,
  prompts: Sequence[str] = (),
  host: int = 0,
  hosts: int = 1,
) -> str:
  """Writes the missing embeddings of this host's share; returns a line that says what was written.

  dataset: the folder of a dataset that `data.builder` wrote; `text.embeddings` describes the files.
  source: the folder of a T5 that `text.convert` wrote.
  prompts: are embedded besides the captions and the empty text.
  host, hosts: the number of this host, from 0, and how many there are.  All must see the dataset.

  Each host lists the captions of its share of the shards, waits until the others have listed those
  of theirs, and embeds its share of the distinct captions.  What is written does not depend on the
  number of hosts, and a command that was killed continues where it was.

  UserError, before anything is written, if an argument is not allowed, the dataset is incomplete,
  or there are embeddings of another encoder or with other settings.
  """
  if not 0 <= host < hosts:
    raise UserError(f'Got host {host} of {hosts}; allowed are 0 to {hosts - 1}.')
  if source == 'hashed':
    raise UserError('Got --encoder=hashed, which needs no memory; allowed is a folder of a T5.')
  if str(dataset).startswith(PREFIX):
    raise UserError(
      f'Got --dataset={dataset}; allowed is a folder that data.builder wrote.  The T5 beside the '
      'training embeds the captions of TFDS.'
    )
  options = dict(tokens=tokens, dtype=dtype, stored_dtype=stored_dtype, mask_padding=mask_padding)
  settings = encoder_settings(source, **options)
  encode = open_encoder(source=source, width=settings.width, **options)
  shards = datasets.shards(str(dataset))
  folder = embeddings.folder_of(dataset)
  settings = _begin(folder, settings, dataset)
  if host == 0:
    for text in dict.fromkeys(['', *prompts]):
      if not (path := prompt_path(folder, text)).exists():
        embeddings.write(path, encode, [text], settings)
  listed = {name: folder / 'captions' / f'{name}.jsonl' for name in shards}
  for name in tqdm.tqdm([*shards][host::hosts], desc='captions', unit='shard'):
    if not listed[name].exists():
      _write_captions(listed[name], datasets.captions(str(dataset), *shards[name]))
  _wait([*listed.values()])
  captions = distinct([*listed.values()])
  if not (folder / 'digests.npy').exists():
    with new_file(folder / 'digests.npy') as incomplete, incomplete.open('wb') as file:
      np.save(file, captions.digests)
  count = len(captions.digests)
  parts = embeddings.parts(count, settings.part)
  share = {number: parts[number] for number in range(len(parts))[host::hosts]}
  _write_parts(folder, captions, encode, settings, share)
  clips = sum(len(records) for _, records in shards.values())
  return _finish(folder, count, clips, len(parts))


def _begin(folder: pathlib.Path, settings: Settings, dataset: pathlib.Path) -> Settings:
  """Writes the settings if there are none; returns those that are there.

  UserError if they are others, or if embeddings that are incomplete were begun on other devices or
  with another version of JAX, which would round differently.
  """
  require_folder(folder)
  devices = jax.local_devices()
  begun = {
    'dataset': embeddings.dataset_digest(dataset),
    'devices': f'{len(devices)} x {devices[0].device_kind}',
    'jax': jax.__version__,
  }
  path = folder / 'settings.json'
  if not path.exists():
    folder.mkdir(exist_ok=True)
    _write_json(path, dataclasses.asdict(settings) | begun)
  present = embeddings.read_settings(folder)
  if differ := present.differences(settings):
    raise UserError(
      f'{folder} has {", ".join(differ)}.  Remove it to embed the captions again, or repeat the '
      'command that wrote it.'
    )
  actual = files.read_object(path)
  if actual.get('dataset') != begun['dataset']:
    raise UserError(f'{dataset} has changed since {folder} was begun.  Remove that folder.')
  differ = [key for key in begun if actual.get(key) != begun[key]]
  if differ and not (folder / 'complete.json').exists():  # later, prompts may be added anywhere
    listed = lambda facts: ', '.join(f'{key}={facts.get(key)}' for key in differ)
    raise UserError(
      f'{folder} was begun with {listed(actual)}; this host has {listed(begun)}, and would write '
      'other bits.  Continue as it was begun, or remove it.'
    )
  return present


def _write_json(path: pathlib.Path, content: dict) -> None:
  with new_file(path) as incomplete:
    incomplete.write_text(json.dumps(content, indent=2) + '\n', 'utf-8')


def _write_captions(path: pathlib.Path, captions: Iterable[str]) -> None:
  """Writes each distinct caption once."""
  path.parent.mkdir(exist_ok=True)
  with new_file(path) as incomplete, incomplete.open('w', encoding='utf-8') as file:
    file.writelines(json.dumps(text) + '\n' for text in dict.fromkeys(captions))


def _wait(paths: Sequence[pathlib.Path]) -> None:
  """Waits until other hosts have written these files."""
  asked = False
  while missing := [path for path in paths if not path.exists()]:
    if not asked:
      of_others = f'{len(missing)} of {len(paths)} lists of captions by other hosts'
      print(f'Waiting for {of_others}.', flush=True)
    asked = True
    time.sleep(POLL)


def distinct(paths: Sequence[pathlib.Path]) -> Captions:
  """The distinct captions in files with a caption in each line."""
  # Millions of Python objects would take several times the memory of these arrays.
  digests, file, offset = bytearray(), array.array('q'), array.array('q')
  for number, path in enumerate(paths):
    at = 0
    with path.open('rb') as lines:
      for line in lines:
        digests += embeddings.digest(json.loads(line))
        file.append(number)
        offset.append(at)
        at += len(line)
  ordered, first = np.unique(np.frombuffer(digests, DIGEST), return_index=True)
  return Captions(ordered, paths, np.asarray(file)[first], np.asarray(offset)[first])


def _write_parts(
  folder: pathlib.Path,
  captions: Captions,
  encode: Encoder,
  settings: Settings,
  parts: Mapping[int, range],
) -> None:
  """Writes the missing ones of these parts."""
  present = _present(folder)
  missing = {number: rows for number, rows in parts.items() if number not in present}
  with tqdm.tqdm(total=sum(map(len, missing.values())), desc='embeddings', unit='caption') as bar:
    for number, rows in missing.items():
      texts = [captions.read(row) for row in rows]
      embeddings.write(part_path(folder, number), encode, texts, settings)
      bar.update(len(rows))


def _present(folder: pathlib.Path) -> set[int]:
  """The numbers of the parts that exist."""
  return {int(path.stem) for path in (folder / 'parts').rglob('*.bin')}


def _finish(folder: pathlib.Path, count: int, clips: int, parts: int) -> str:
  """A line that says how many embeddings there are.  If none is missing, writes `complete.json`."""
  missing = parts - len(_present(folder))
  if missing:
    return f'{missing} of {parts} parts of {folder} are not there yet: other hosts write them.'
  _write_json(folder / 'complete.json', {'captions': count, 'clips': clips})
  return f'{folder}: embeddings of {count:,} distinct captions of {clips:,} clips'


def _define_flags() -> None:
  # Not at import: a process has one set of flags, and importing this module must not add to it.
  flags.DEFINE_string('dataset', None, 'Folder of a dataset of data.builder.', required=True)
  flags.DEFINE_string('encoder', None, 'Folder of a T5 that text.convert wrote.', required=True)
  flags.DEFINE_integer('tokens', 128, 'The length of every text: config.text.tokens.')
  flags.DEFINE_enum('dtype', 'bfloat16', DTYPES, 'Of products in T5: config.text.dtype.')
  flags.DEFINE_enum(
    'stored_dtype', None, STORED_DTYPES,
    'Of the embeddings that are written, config.text.stored_dtype; by default --dtype.',
  )  # fmt: skip
  flags.DEFINE_bool(
    'mask_padding', True,
    'Whether embeddings of padding are left out: config.text.mask_padding.',
  )  # fmt: skip
  flags.DEFINE_multi_string(
    'prompt', [], 'A prompt of samples in training; may be repeated.  It is embedded too.'
  )
  flags.DEFINE_string(
    'prompts_file', None,
    'A file with a list of prompts that are embedded too.  It ends in .txt, .tsv, .json or .jsonl.',
  )  # fmt: skip
  flags.DEFINE_integer('host', 0, 'The number of this host, of --hosts.', lower_bound=0)
  flags.DEFINE_integer(
    'hosts', 1, 'The number of hosts.  Each embeds its share of the captions.', lower_bound=1
  )


def main() -> None:
  values = flags.FLAGS.flag_values_dict()
  prompts = list(values['prompt'])
  if values['prompts_file']:
    prompts += lists.read(pathlib.Path(values['prompts_file']))
  names = ('tokens', 'dtype', 'mask_padding', 'host', 'hosts')
  print(
    embed(
      pathlib.Path(values['dataset']),
      values['encoder'],
      stored_dtype=values['stored_dtype'] or '',
      prompts=prompts,
      **{name: values[name] for name in names},
    )
  )


if __name__ == '__main__':
  _define_flags()
  command.run(main)
