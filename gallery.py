r"""Every application with the models that ship, on one page: gallery/index.html.

  python gallery.py

Inputs are moving shapes, drawn as the models have never seen them.  Each row of the page has a
command, what it was given, what it made, and the X-T slice of that.
"""

import core.early  # noqa: F401
from core.errors import UserError

# isort: split
import dataclasses
import html
import itertools
import pathlib
import shlex
import subprocess
import sys

import numpy as np
from absl import flags

from core import command, unicode, video
from core.folder import new_file
from core.writable import require_folder
from data import synthetic
from data.pipeline import SHAPES
from evaluation.shapes.applications import boxes
from pipelines import style

DEMO = pathlib.Path('checkpoints/demo')
SIDE, FRAMES, FPS = 128, 80, 16.0

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Lumiere: a gallery</title>
<style>
  body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em }}
  section {{ border-top: 1px solid #8884; padding: 1em 0 }}
  figure {{ display: inline-block; margin: 0 1em 0 0; vertical-align: top }}
  figcaption {{ color: #888; font-size: 13px }}
  img, video {{ width: 192px; height: 192px; object-fit: contain; image-rendering: pixelated }}
  pre {{ white-space: pre-wrap; background: #8881; padding: .6em }}
</style>
<h1>Lumiere: a gallery</h1>
<p>Made by the small models that ship with the code, of moving shapes that they have not seen.</p>
{rows}
"""
ROW = """<section>
<h2>{name}</h2>
<pre>{command}</pre>
{figures}
</section>
"""
FIGURE = '<figure>{media}<figcaption>{caption}</figcaption></figure>'


@dataclasses.dataclass(frozen=True)
class Row:
  """One application."""

  name: str
  verb: str
  prompt: str
  inputs: dict[str, str]  # flag -> the file in the gallery's folder
  options: tuple[str, ...] = ()

  def argv(self, folder: pathlib.Path, out: str) -> list[str]:
    """The command, but for the interpreter."""
    files = [f'--{flag}={folder / file}' for flag, file in self.inputs.items()]
    made = [f'--output={folder / out}.mp4', f'--xt_slice={folder / out}_xt.png']
    return ['sample.py', self.verb, f'--prompt={self.prompt}', *files, *self.options, *made]


def drawn(folder: pathlib.Path) -> dict[str, Row]:
  """Draws the inputs into the folder; the rows of the page, by the names of what they make."""
  moving = 'a yellow square moving right on a navy background'
  clip = _scene(moving)
  video.write(folder / 'clip.mp4', clip['video'], fps=FPS)
  video.write(folder / 'image.png', clip['video'][:1])
  video.write(folder / 'covered.mp4', _gray(boxes(clip['mask'])), fps=FPS)
  still = _scene('a red circle standing still on a white background')
  video.write(folder / 'still.png', still['video'][:1])
  video.write(folder / 'region.png', _gray(boxes(still['mask'][:1])))
  wobbling = 'a red circle spinning on a white background'
  edited = 'a magenta square moving right on a navy background'
  rows = [
    Row('Text to video', 'text_to_video', 'a cyan circle moving down on a black background', {}),
    Row('Image to video', 'image_to_video', moving, {'image': 'image.png'}),
    Row('Inpainting', 'inpaint', moving, {'video': 'clip.mp4', 'mask': 'covered.mp4'}),
    Row('Outpainting', 'outpaint', moving, {'video': 'clip.mp4'}, ('--pad=24,24,24,24',)),
    Row('Cinemagraph', 'cinemagraph', wobbling, {'image': 'still.png', 'mask': 'region.png'}),
    Row('Video editing', 'edit', edited, {'video': 'clip.mp4'}, ('--strength=0.7',)),
  ]
  named = {row.verb: row for row in rows}
  for file in sorted((DEMO / 'styles').glob('*.npz')):
    prompt = f'a circle moving left {style.load(file).descriptor}'
    row = Row(f'Style: {file.stem}', 'stylize', prompt, {}, (f'--style={file}',))
    named[f'stylize_{file.stem}'] = row
  return named


def _scene(caption: str) -> dict:
  """The first held-out clip with this caption."""
  seed = SHAPES['test']
  clips = (i for i in itertools.count() if synthetic.facts(i, seed).caption == caption)
  return synthetic.clip(next(clips), size=SIDE, frames=FRAMES, fps=FPS, seed=seed)


def _gray(mask):
  return np.repeat(mask[..., None] * np.uint8(255), 3, -1)


def page(folder: pathlib.Path, rows: dict[str, Row]) -> str:
  """The page, of files beside it."""
  sections = []
  for out, row in rows.items():
    shown = {file: flag for flag, file in row.inputs.items()}
    shown |= {f'{out}.mp4': 'made', f'{out}_xt.png': 'its X-T slice'}
    figures = ''.join(
      FIGURE.format(media=_media(file), caption=about) for file, about in shown.items()
    )
    line = html.escape(shlex.join(['python', *row.argv(folder, out)]))
    sections.append(ROW.format(name=html.escape(row.name), command=line, figures=figures))
  return PAGE.format(rows=''.join(sections))


def _media(file: str) -> str:
  if file.endswith('.mp4'):
    return f'<video src="{file}" autoplay loop muted playsinline controls></video>'
  return f'<img src="{file}" alt="">'


def main() -> None:
  folder = pathlib.Path(flags.FLAGS.output)
  if folder.exists() and not folder.is_dir():
    raise UserError(f'--output={folder} is a file; allowed is a folder.')
  require_folder(folder)
  folder.mkdir(parents=True, exist_ok=True)
  steps = f'--steps={flags.FLAGS.steps}'
  rows = {
    out: dataclasses.replace(row, options=(*row.options, steps))
    for out, row in drawn(folder).items()
  }
  for i, (out, row) in enumerate(rows.items()):
    print(f'{row.name} ({i + 1} of {len(rows)})', flush=True)
    argv = [sys.executable, *row.argv(folder, out)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
      sys.stderr.write(done.stderr)
      sys.exit(done.returncode)
  with new_file(folder / 'index.html') as file:
    file.write_text(unicode.escaped(page(folder, rows)), 'utf-8')
  print(folder / 'index.html')


if __name__ == '__main__':
  flags.DEFINE_string(
    'output', 'gallery', 'The folder of the page, which is made if it does not exist.'
  )
  flags.DEFINE_integer(
    'steps', 20, 'The number of denoising steps of the base model for each video.', lower_bound=1
  )
  command.run(main)
