"""Videos of two systems, matched by name and brought to the same size, length and frame rate."""

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


def match(ours: Folder, theirs: Folder) -> dict[str, tuple[Path, Path]]:
  """Both files of each name, without extension; UserError where a name is in one folder only."""
  a, b = by_name(ours), by_name(theirs)
  unmatched = [f'{a[n].name} only in {ours.path}' for n in sorted(a.keys() - b.keys())]
  unmatched += [f'{b[n].name} only in {theirs.path}' for n in sorted(b.keys() - a.keys())]
  if unmatched:
    raise UserError(f'Every video needs one of its name in the other folder; {few(unmatched)}.')
  return {name: (a[name], b[name]) for name in sorted(a)}


def by_name(folder: Folder) -> dict[str, Path]:
  """The files of a folder by name; UserError where two have the same name, and for a .npy."""
  files_by_name = {}
  for file in folder.files:
    if file.lower().endswith('.npy'):
      allowed = ', '.join(extension for extension in EXTENSIONS if extension != '.npy')
      raise UserError(f'{folder.path / file} has no frame rate, as all .npy; allowed: {allowed}.')
    if (name := _name(file)) in files_by_name:
      raise UserError(f'{files_by_name[name]} and {file}: allowed is one video of a name.')
    files_by_name[name] = folder.path / file
  return files_by_name


def prompts(folders: Sequence[Folder]) -> dict[str, str]:
  """The prompt of each name that has one; UserError where two folders disagree."""
  result = {}
  for folder in folders:
    for file, prompt in folder.known_prompts().items():
      name = _name(file)
      if result.setdefault(name, prompt) != prompt:
        raise UserError(
          f'{folder.path}: {name} has the prompt {prompt!r}, elsewhere {result[name]!r}.'
        )
  return result


def read_clips(files: Sequence[Path], *, size: int, fps: float) -> list[video.Pixels]:
  """Central squares of the videos, cut to the length of the shortest (Lumiere, Sec. 5.2)."""
  videos = [decode(file, fps=fps, size=size) for file in files]
  shortest = min(map(len, videos))
  return [pictures.fitted(clip[:shortest], size, size, 'crop') for clip in videos]


def input_images(folder: Path, names: Collection[str], *, size: int) -> dict[str, str]:
  """The central square of the image of each name, as a data URI.

  folder: the images, also in folders below; UserError where a name has no image, or several.
  """
  images = collections.defaultdict(list)
  for file in files.below(folder):
    images[_name(file)].append(folder / file)
  for name in names:
    if len(images[name]) != 1:
      raise UserError(f'There are {len(images[name])} images {name} in {folder}; allowed is one.')
  return {name: _square(images[name][0], size) for name in names}


def _square(file: Path, size: int) -> str:
  pixels = pictures.read_image(file, warn=print)
  stream = io.BytesIO()
  Image.fromarray(pictures.fitted(pixels, size, size, 'crop')[0]).save(stream, 'JPEG', quality=90)
  return 'data:image/jpeg;base64,' + base64.b64encode(stream.getvalue()).decode()


def few(names: Sequence[str]) -> str:
  """The first five names, and the number of the others."""
  return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


def _name(file: str) -> str:
  """A file's name without its extension, with accents in one form."""
  return files.composed(str(Path(file).with_suffix('')))
