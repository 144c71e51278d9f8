r"""Makes the animations of the README: docs/media/*.webp.

  python gallery.py --output=gallery
  python -m benchmarks.front_page --gallery=gallery --output=docs/media

The shipped models generate the videos of `PROMPTS`, which are shown side by side.  The
videos of the other applications are those of the gallery.
"""

import pathlib

import numpy as np
from absl import flags
from einops import rearrange

from core import command, video
from data.decode import decode
from pipelines import Pipeline

PROMPTS = (
  'a red circle moving right on a black background',
  'a yellow triangle bouncing on a navy background',
  'a cyan ring growing on a black background',
  'a magenta cross moving up on a navy background',
  'a green square shrinking on a white background',
  'a blue triangle moving down on a white background',
  'a white cross bouncing on a gray background',
  'a magenta square moving left on a white background',
)
# Videos of the gallery.
SHOWN = ('image_to_video', 'inpaint', 'outpaint', 'cinemagraph', 'edit', 'stylize_neon')
COLUMNS, FPS = 4, 16.0


def main() -> None:
  output = pathlib.Path(flags.FLAGS.output)
  output.mkdir(parents=True, exist_ok=True)
  checkpoints = pathlib.Path(flags.FLAGS.checkpoints)
  pipeline = Pipeline.load(checkpoints / 't2v', ssr_workdir=checkpoints / 'ssr')
  videos = np.stack(list(pipeline.generate(PROMPTS, seed=flags.FLAGS.seed)))
  grid = rearrange(videos, '(r s) t h w c -> t (r h) (s w) c', s=COLUMNS)
  video.write(output / 'text_to_video.webp', grid, fps=FPS)
  for name in SHOWN:
    clip = decode(f'{flags.FLAGS.gallery}/{name}.mp4', fps=FPS)
    video.write(output / f'{name}.webp', clip, fps=FPS)
  print(*sorted(output.glob('*.webp')), sep='\n')


if __name__ == '__main__':
  flags.DEFINE_string('checkpoints', 'checkpoints/demo', 'Folder of the models t2v and ssr.')
  flags.DEFINE_string('gallery', 'gallery', 'Folder that gallery.py wrote.')
  flags.DEFINE_string('output', 'docs/media', 'Folder of the animations.')
  flags.DEFINE_integer('seed', 1, 'Seed of the videos.')
  command.run(main)
