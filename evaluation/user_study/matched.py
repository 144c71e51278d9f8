"""Videos of two systems, matched by their names and made equal in all but what they show."""

import base64
import collections
import io
import pathlib
from collections.abc import Collection, Sequence

from PIL import Image

from core import files, video
from core.errors import UserError
from data import pictures
from data.decode import decode
from evaluation.folder import EXTENSIONS, Folder

Path = pathlib.Path


def matched(ours: Folder, theirs: Folder) -> dict[str, tuple[Path, Path]]:
  """Both files of each name, which is a file's without its extension; ValueError for one alone."""
  a, b = by_name(ours), by_name(theirs)
  alone = [f'{a[n].name} only in {ours.path}' for n in sorted(a.keys() - b.keys())]
  alone += [f'{b[n].name} only in {theirs.path}' for n in sorted(b.keys() - a.keys())]
  if alone:
    raise UserError(f'Every video needs one of its name in the other folder; {few(alone)}.')
  return {name: (a[name], b[name]) for name in sorted(a)}


def by_name(folder: Folder) -> dict[str, Path]:
  """The files of a folder by their names; ValueError where two have the same, and for a .npy."""
  found = {}
  for file in folder.files:
    if file.lower().endswith('.npy'):
      allowed = ', '.join(extension for extension in EXTENSIONS if extension != '.npy')
      raise UserError(f'{folder.path / file} has no frame rate, as all .npy; allowed: {allowed}.')
    if (name := _name(file)) in found:
      raise UserError(f'{found[name]} and {file}: allowed is one video of a name.')
    found[name] = folder.path / file
  return found


def prompts(folders: Sequence[Folder]) -> dict[str, str]:
  """The prompt of each name that has one; ValueError where two disagree."""
  found = {}
  for folder in folders:
    for file, prompt in folder.known_prompts().items():
      name = _name(file)
      if found.setdefault(name, prompt) != prompt:
        raise UserError(
          f'{folder.path}: {name} has the prompt {prompt!r}, elsewhere {found[name]!r}.'
        )
  return found


def clips(files: Sequence[Path], *, size: int, fps: float) -> list[video.Pixels]:
  """Squares from the middle of the videos, as long as the shortest of them (Lumiere, Sec. 5.2)."""
  found = [decode(file, fps=fps, size=size) for file in files]
  shortest = min(map(len, found))
  return [pictures.fitted(clip[:shortest], size, size, 'crop') for clip in found]


def given_images(folder: Path, names: Collection[str], *, size: int) -> dict[str, str]:
  """For each name the square from the middle of its picture, as a data URI.

  names: those of videos, which may be in folders below.  ValueError where one has no picture, or
  several.
  """
  found = collections.defaultdict(list)
  for file in files.below(folder):
    found[_name(file)].append(folder / file)
  for name in names:
    if len(found[name]) != 1:
      raise UserError(f'There are {len(found[name])} images {name} in {folder}; allowed is one.')
  return {name: _square(found[name][0], size) for name in names}


def _square(file: Path, size: int) -> str:
  pixels = pictures.read_image(file, warn=print)
  stream = io.BytesIO()
  Image.fromarray(pictures.fitted(pixels, size, size, 'crop')[0]).save(stream, 'JPEG', quality=90)
  return 'data:image/jpeg;base64,' + base64.b64encode(stream.getvalue()).decode()


def few(names: Sequence[str]) -> str:
  """The first of the names, and how many more there are."""
  return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


def _name(file: str) -> str:
  """A file's name without its extension, the same for every form of its accents."""
  return files.composed(str(Path(file).with_suffix('')))
