"""Videos of two systems, matched by their names and made equal in all but what they show."""

import base64
import io
import json
import pathlib
from collections.abc import Iterable, Sequence

from PIL import Image

from core import video
from data import pictures
from data.decode import decode

Path = pathlib.Path


def matched(ours: Path, theirs: Path) -> dict[str, tuple[Path, Path]]:
  """Both files of each name, which is a file's without its extension; ValueError for one alone."""
  a, b = videos_in(ours), videos_in(theirs)
  alone = [f'{a[n].name} only in {ours}' for n in sorted(a.keys() - b.keys())]
  alone += [f'{b[n].name} only in {theirs}' for n in sorted(b.keys() - a.keys())]
  if alone:
    raise ValueError(f'Every video needs one of its name in the other folder; {few(alone)}.')
  return {name: (a[name], b[name]) for name in sorted(a)}


def videos_in(folder: Path) -> dict[str, Path]:
  """The files of a folder by their names, but for `index.jsonl` and hidden ones."""
  if not folder.is_dir():
    raise ValueError(f'There is no folder {folder}; allowed is one of videos.')
  files = {}
  for file in sorted(folder.iterdir()):
    if file.suffix == '.jsonl' or file.name.startswith('.') or file.is_dir():
      continue
    if file.stem in files:
      raise ValueError(f'{files[file.stem]} and {file.name}: allowed is one video of a name.')
    files[file.stem] = file
  if not files:
    raise ValueError(f'{folder} has no videos; allowed is a folder of some.')
  return files


def prompts(folders: Iterable[Path]) -> dict[str, str]:
  """The prompt of each name in `index.jsonl`, where there is one; ValueError where two disagree."""
  found = {}
  for index in (folder / 'index.jsonl' for folder in folders):
    lines = index.read_text('utf-8').splitlines() if index.is_file() else []
    for number, line in enumerate(lines, 1):
      name, prompt = _entry(line, f'{index}, line {number}')
      if found.setdefault(name, prompt) != prompt:
        raise ValueError(f'{index}: {name} has the prompt {prompt!r}, elsewhere {found[name]!r}.')
  return found


def clips(files: Sequence[Path], *, size: int, fps: float) -> list[video.Pixels]:
  """Squares from the middle of the videos, as long as the shortest of them (Lumiere, Sec. 5.2)."""
  found = [decode(file, fps=fps, size=size) for file in files]
  shortest = min(map(len, found))
  return [pictures.fitted(clip[:shortest], size, size, 'crop') for clip in found]


def image(folder: Path, name: str, *, size: int) -> str:
  """The square from the middle of a picture, as a data URI; ValueError where it is not there."""
  files = sorted(file for file in folder.glob('*.*') if file.stem == name)
  if len(files) != 1:
    raise ValueError(f'There are {len(files)} images {name} in {folder}; allowed is one.')
  pixels = pictures.read_image(files[0], tell=print)
  stream = io.BytesIO()
  Image.fromarray(pictures.fitted(pixels, size, size, 'crop')[0]).save(stream, 'JPEG', quality=90)
  return 'data:image/jpeg;base64,' + base64.b64encode(stream.getvalue()).decode()


def few(names: Sequence[str]) -> str:
  """The first of the names, and how many more there are."""
  return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


def _entry(line: str, where: str) -> tuple[str, str]:
  try:
    fields = json.loads(line)
    return Path(fields['file']).stem, str(fields['prompt'])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{where}: allowed is a JSON object with file and prompt.') from error
