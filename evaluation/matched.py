"""Videos of two systems, matched by their names and made equal in all but what they show."""

import base64
import io
import pathlib
from collections.abc import Sequence

from PIL import Image

from core import video
from data import pictures
from data.decode import decode
from evaluation.videos import EXTENSIONS, Folder

Path = pathlib.Path


def matched(ours: Folder, theirs: Folder) -> dict[str, tuple[Path, Path]]:
  """Both files of each name, which is a file's without its extension; ValueError for one alone."""
  a, b = by_name(ours), by_name(theirs)
  alone = [f'{a[n].name} only in {ours.path}' for n in sorted(a.keys() - b.keys())]
  alone += [f'{b[n].name} only in {theirs.path}' for n in sorted(b.keys() - a.keys())]
  if alone:
    raise ValueError(f'Every video needs one of its name in the other folder; {few(alone)}.')
  return {name: (a[name], b[name]) for name in sorted(a)}


def by_name(folder: Folder) -> dict[str, Path]:
  """The files of a folder by their names; ValueError where two have the same, and for a .npy."""
  files = {}
  for file in folder.files:
    if file.lower().endswith('.npy'):
      allowed = ', '.join(extension for extension in EXTENSIONS if extension != '.npy')
      raise ValueError(f'{folder.path / file} has no frame rate, as all .npy; allowed: {allowed}.')
    if (name := _name(file)) in files:
      raise ValueError(f'{files[name]} and {file}: allowed is one video of a name.')
    files[name] = folder.path / file
  return files


def prompts(folders: Sequence[Folder]) -> dict[str, str]:
  """The prompt of each name that has one; ValueError where two disagree."""
  found = {}
  for folder in folders:
    for file, prompt in folder.some_prompts().items():
      name = _name(file)
      if found.setdefault(name, prompt) != prompt:
        raise ValueError(
          f'{folder.path}: {name} has the prompt {prompt!r}, elsewhere {found[name]!r}.'
        )
  return found


def clips(files: Sequence[Path], *, size: int, fps: float) -> list[video.Pixels]:
  """Squares from the middle of the videos, as long as the shortest of them (Lumiere, Sec. 5.2)."""
  found = [decode(file, fps=fps, size=size) for file in files]
  shortest = min(map(len, found))
  return [pictures.fitted(clip[:shortest], size, size, 'crop') for clip in found]


def image(folder: Path, name: str, *, size: int) -> str:
  """The square from the middle of a picture, as a data URI; ValueError where it is not there.

  name: that of its video, which may be in a folder below.
  """
  path = folder / name
  files = sorted(file for file in path.parent.glob('*.*') if file.stem == path.name)
  if len(files) != 1:
    raise ValueError(f'There are {len(files)} images {name} in {folder}; allowed is one.')
  pixels = pictures.read_image(files[0], tell=print)
  stream = io.BytesIO()
  Image.fromarray(pictures.fitted(pixels, size, size, 'crop')[0]).save(stream, 'JPEG', quality=90)
  return 'data:image/jpeg;base64,' + base64.b64encode(stream.getvalue()).decode()


def few(names: Sequence[str]) -> str:
  """The first of the names, and how many more there are."""
  return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


def _name(file: str) -> str:
  return str(Path(file).with_suffix(''))
