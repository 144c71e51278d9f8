r"""Draws the picture in README.md: videos of the shipped model.

python -m benchmarks.front_page --output=docs/demo.png
"""

import pathlib

from absl import flags

from benchmarks import chart
from core import command, video
from core.folder import new_file
from pipelines import Pipeline

PROMPTS = (
  'a red circle moving right on a black background',
  'a yellow triangle moving up on a navy background',
  'a white square spinning on a gray background',
  'a green ring growing on a black background',
  'a blue cross bouncing on a white background',
)


def main() -> None:
  output = pathlib.Path(flags.FLAGS.output)
  video.check_writable(output)
  pipeline = Pipeline.load(flags.FLAGS.workdir)
  videos = (pipeline.generate([prompt], seed=flags.FLAGS.seed) for prompt in PROMPTS)
  strips = [chart.filmstrip(prompt, next(video)) for prompt, video in zip(PROMPTS, videos)]
  with new_file(pathlib.Path(output)) as file:
    chart.stacked(strips).save(file, 'PNG')
  print(output)


if __name__ == '__main__':
  flags.DEFINE_string('workdir', 'checkpoints/demo/t2v', 'Workdir of the model.')
  flags.DEFINE_string('output', 'docs/demo.png', 'Image file to write.')
  flags.DEFINE_integer('seed', 0, 'Seed of the noise.')
  command.run(main)
