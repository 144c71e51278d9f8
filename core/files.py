"""The files below a folder, names that mean the same file, and what is in a JSON file."""

import contextlib
import hashlib
import json
import os
import pathlib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator

from core.errors import UserError, UserFileError

Refuse = Callable[[pathlib.Path, OSError], None]


def _refuse(folder: pathlib.Path, error: OSError) -> None:
  raise UserFileError(f'Cannot read the folder {folder}: {error.strerror or error}.') from error


def below(folder: pathlib.Path, unreadable: Refuse = _refuse) -> Iterator[str]:
  """The path of every file below a folder, relative to it and with `/`, in no particular order.

  Symbolic links are followed, except to folders that contain `folder`.  Each folder is entered only
  once, through its real path if that is below `folder`, so that no file is listed twice.

  unreadable: is called with each folder that can't be read; by default it raises an OSError.
  """
  root = os.path.realpath(folder)
  entered, folders, links = set(), [''], []
  while folders or links:
    name = folders.pop() if folders else links.pop(0)
    real = os.path.realpath(folder / name)
    if real in entered or (name and os.path.commonpath([real, root]) == real):
      continue
    entered.add(real)
    inner_folders, inner_links = [], []
    with contextlib.closing(_entries(folder / name, unreadable)) as entries:
      for entry in entries:
        inner = f'{name}/{entry.name}' if name else entry.name
        if not entry.is_symlink():
          if entry.is_dir():
            inner_folders.append(inner)
          elif entry.is_file():
            yield inner
        elif os.path.isdir(entry.path):
          inner_links.append(inner)
        elif os.path.isfile(entry.path):  # false for a link that is broken or circular
          yield inner
    # Their order decides by which of several links a folder is entered.
    folders += sorted(inner_folders)
    links += sorted(inner_links)


def _entries(folder: pathlib.Path, unreadable: Refuse) -> Iterator[os.DirEntry]:
  """The entries of a folder, up to the one at which it cannot be read."""
  try:
    scan = os.scandir(folder)
  except OSError as error:
    return unreadable(folder, error)
  with scan:
    while True:
      try:
        entry = next(scan, None)
      except OSError as error:
        return unreadable(folder, error)
      if entry is None:
        return None
      yield entry


def composed(name: str) -> str:
  """The name in the Unicode form NFC; file systems store accents in several forms."""
  return unicodedata.normalize('NFC', name)


def match_names(wanted: Collection[str], present: Collection[str]) -> dict[str, str]:
  """The present name for each wanted name; wanted names without one are left out.

  A name matches the same name.  If there is none, it matches the only name that has the same NFC
  form, if there is exactly one.
  """
  return {name: name for name in wanted if name in present} | _of_same_form(wanted, present)


def _of_same_form(wanted: Collection[str], present: Collection[str]) -> dict[str, str]:
  forms = {}
  for name in wanted:
    if name not in present:
      forms.setdefault(composed(name), ([], []))[0].append(name)
  for name in present if forms else ():
    if name not in wanted and (names := forms.get(composed(name))):
      names[1].append(name)
  return {ours[0]: theirs[0] for ours, theirs in forms.values() if len(ours) == len(theirs) == 1}


def resolve(
  folder: pathlib.Path, wanted: Collection[str], present: Collection[str]
) -> dict[str, str]:
  """The present name for each wanted path: by `match_names`, or of the same file on disk."""
  same = {name: name for name in wanted if name in present}
  return same | other_names(folder, wanted, present)


def other_names(
  folder: pathlib.Path, wanted: Collection[str], present: Collection[str]
) -> dict[str, str]:
  """What `resolve` returns for the wanted paths that are not present by this name.

  If two links lead to one file, `below` lists it under only one of them, and `wanted` may have the
  other.  Besides the result, only the wanted paths without a present name are in memory.
  """
  resolved = _of_same_form(wanted, present)
  left = [name for name in wanted if name not in present and name not in resolved]
  real_paths = {n: os.path.realpath(folder / n) for n in left if os.path.isfile(folder / n)}
  by_real_path = dict.fromkeys(real_paths.values())
  for name in present if by_real_path else ():
    if (real := os.path.realpath(folder / name)) in by_real_path:
      by_real_path[real] = name
  return resolved | {n: name for n, real in real_paths.items() if (name := by_real_path[real])}


def digest(files: Iterable[pathlib.Path]) -> str:
  """The SHA-256 of each file in hexadecimal, joined by plus signs after `sha256:`."""
  digests = []
  for path in files:
    with path.open('rb') as file:
      digests.append(hashlib.file_digest(file, 'sha256').hexdigest())
  return f'sha256:{"+".join(digests)}'


def read_object(path: pathlib.Path) -> dict:
  """The object in a JSON file; UserError if there is no such file or no object in it."""
  if not path.is_file():
    raise UserError(f'There is no file {path}.')
  try:
    content = json.loads(path.read_text('utf-8'))
  except ValueError as error:
    raise UserError(f'{path} is not JSON: {error}.') from error
  if not isinstance(content, dict):
    raise UserError(f'{path} is not a JSON object.')
  return content
