"""The files below a folder, and names that mean the same file."""

import hashlib
import os
import pathlib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator

from core.errors import UserFileError

Refuse = Callable[[pathlib.Path, OSError], None]


def _refuse(folder: pathlib.Path, error: OSError) -> None:
  raise UserFileError(f'Cannot read the folder {folder}: {error.strerror or error}.') from error


def below(folder: pathlib.Path, unreadable: Refuse = _refuse) -> Iterator[str]:
  """The name of every file below a folder, relative to it and with `/`, in no order.

  Symbolic links are followed.  A folder is entered once, by its own name where it has one below
  `folder`, so that no file is found twice; a link to what `folder` itself is in is not followed.

  unreadable: is called with each folder that can't be read; by default that is an OSError.
  """
  root = os.path.realpath(folder)
  entered, folders, links = set(), [''], []
  while folders or links:
    name = folders.pop() if folders else links.pop(0)
    real = os.path.realpath(folder / name)
    if real in entered or (name and os.path.commonpath([real, root]) == real):
      continue
    entered.add(real)
    try:
      with os.scandir(folder / name) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
      unreadable(folder / name, error)
      continue
    for entry in entries:
      inner = f'{name}/{entry.name}' if name else entry.name
      if not entry.is_symlink():
        if entry.is_dir():
          folders.append(inner)
        elif entry.is_file():
          yield inner
      elif os.path.isdir(entry.path):
        links.append(inner)
      elif os.path.isfile(entry.path):  # not so where a link leads nowhere, or round
        yield inner


def composed(name: str) -> str:
  """The name with its accents in one form, which is NFC; systems keep them in several."""
  return unicodedata.normalize('NFC', name)


def named(wanted: Collection[str], present: Collection[str]) -> dict[str, str]:
  """For each wanted name the present one that it means, for those that mean one.

  That is the same name or, where there is none, the only other whose accents alone are in another
  form.
  """
  same = set(wanted) & set(present)
  asked, found = {}, {}
  for names, by_form in ((wanted, asked), (present, found)):
    for name in set(names) - same:
      by_form.setdefault(composed(name), []).append(name)
  others = {
    names[0]: found[form][0]
    for form, names in asked.items()
    if len(names) == len(found.get(form, ())) == 1
  }
  return {name: name for name in same} | others


def found(
  folder: pathlib.Path, wanted: Collection[str], present: Collection[str]
) -> dict[str, str]:
  """What `named` gives, and for other names of the same files in the folder the present ones.

  `below` gives a file that two links lead to by one of its names; `wanted` may have the other.
  """
  known = named(wanted, present)
  if others := [name for name in {*wanted} - known.keys() if os.path.isfile(folder / name)]:
    by_place = {os.path.realpath(folder / name): name for name in present}
    places = {name: os.path.realpath(folder / name) for name in others}
    known |= {name: by_place[place] for name, place in places.items() if place in by_place}
  return known


def digest(files: Iterable[pathlib.Path]) -> str:
  """The SHA-256 of each file, as `sha256:` and hexadecimal numbers with plus signs between them."""
  digests = []
  for path in files:
    with path.open('rb') as file:
      digests.append(hashlib.file_digest(file, 'sha256').hexdigest())
  return f'sha256:{"+".join(digests)}'
