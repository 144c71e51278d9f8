"""Folders of images or videos without a manifest: what their own files and names say.

Three layouts are read, of which the first that is there counts.  The first and the last are those
of ImageFolder and VideoFolder in the library `datasets` of Hugging Face.

1. `metadata.csv`, `metadata.jsonl` or `metadata.parquet` beside the files, with `file_name`
   relative to its own folder.
2. A file with the caption beside each one: see `manifest.beside`.
3. No captions at all: the name of the folder of a file is its label.

In these two, a folder may be a split, as `train` or `val`.
"""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping

from core import files, unicode
from core.errors import UserError
from data import captions, manifest
from data.on_disk import Rows, Table

UNMATCHED = manifest.UNUSABLE[captions.MISSING]  # the fault of a text file beside no video
METADATA = ('metadata.csv', 'metadata.jsonl', 'metadata.parquet')
ALLOWED = (
  'allowed are clip.txt or clip.json beside clip.mp4, metadata.csv, .jsonl or .parquet, files in '
  'at least two folders whose names are labels, --captions=FILE, or --caption_command=PROGRAM'
)
SPLITS = {  # by the name of a folder, as `datasets` reads them
  **dict.fromkeys(('train', 'training'), 'train'),
  **dict.fromkeys(('dev', 'val', 'valid', 'validation'), 'validation'),
  **dict.fromkeys(('eval', 'evaluation', 'test', 'testing'), 'test'),
}


def read(videos: pathlib.Path, *, blank: bool = False) -> manifest.Manifest:
  """The captions that a folder of images or videos has itself.

  blank: whether files without a caption or a label have lines, without captions.

  ValueError if there are files, but none of the layouts, and `blank` is not set.
  """
  if not videos.is_dir():
    raise UserError(f'There is no folder {videos}; --videos is a folder of image or video files.')
  names = files.below(videos, lambda folder, error: None)  # `captions.match` reports the error
  present = Table((name, None) for name in names)
  if listed := [file for file in present if pathlib.PurePosixPath(file).name in METADATA]:
    return _metadata(videos, listed)
  result = manifest.beside(videos)
  matched = result.lines or any(fault.kind != UNMATCHED for fault in result.faults)
  sidecars = result.sidecars
  if not matched and (lines := _labels(present, sidecars)):
    result = manifest.Manifest(lines, name='the names of folders')
  elif not matched and present and not blank:
    first = next((f'; {fault.where}: {fault.reason}' for fault in result.faults), '')
    raise UserError(f'There are no captions in {videos}{first}; {ALLOWED}.')
  for file in present if blank else ():
    if file not in sidecars and file not in result.lines:
      split = None if matched else _split(file)
      result.lines[file] = captions.Line(None, split, where=unicode.escaped(file))
  return result


def _metadata(videos: pathlib.Path, listed: Collection[str]) -> manifest.Manifest:
  """The entries of all metadata files; the first of several for one file is used."""
  lines, faults = Table(), Rows()
  for name in listed:
    folder, read = pathlib.PurePosixPath(name).parent, manifest.read(videos / name)
    place = lambda where, name=name: f'{unicode.escaped(name)}, {where}'
    for fault in read.faults:
      faults.append(dataclasses.replace(fault, where=place(fault.where)))
    for file, line in read.lines.items():
      file, where = str(folder / file), place(line.where)
      if file in lines:
        reason = f'another line for {file!r}, which {lines[file].where} has'
        faults.append(manifest.Fault(where, manifest.DUPLICATE, reason))
      else:
        lines[file] = dataclasses.replace(line, where=where, split=line.split or _split(file))
  return manifest.Manifest(lines, faults, 'the metadata of the folder', frozenset(listed))


def _labels(present: Collection[str], sidecars: Collection[str]) -> Mapping[str, captions.Line]:
  """The lines of files in at least two folders, each named by a label; else there are none.

  sidecars: those of the files that have no line.
  """
  labels = {label for file in present if file not in sidecars and (label := _label(file))}
  return Table(
    (
      file,
      captions.Line(captions.words(label), _split(file), where=unicode.escaped(file), label=label),
    )
    for file in (present if len(labels) > 1 else ())
    if file not in sidecars and (label := _label(file))
  )


def _label(file: str) -> str | None:
  """The name of the folder that the file is in, if it can be a label."""
  folders = pathlib.PurePosixPath(unicode.escaped(file)).parts[:-1]
  hidden = any(name.startswith('.') for name in folders)
  if folders and not hidden and folders[-1].lower() not in SPLITS and captions.words(folders[-1]):
    return folders[-1]
  return None


def _split(file: str) -> str | None:
  """The split that the first of its folders names which names one."""
  folders = pathlib.PurePosixPath(file).parts[:-1]
  return next((SPLITS[name.lower()] for name in folders if name.lower() in SPLITS), None)
