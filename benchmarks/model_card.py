r"""Writes the model card of an exported model: how it was made, its curves and its scores.

  python -m training.export --workdir=runs/t2v --out=checkpoints/demo/t2v
  python -m benchmarks.model_card --workdir=runs/t2v --output=checkpoints/demo/t2v/README.md \
    --config_name=configs/t2v.py:demo --commit=39d38ec --machine='1 core of an AMD EPYC' \
    --scores=runs/shapes.json

The curves are written beside the card: `curves.png`, or `NAME_curves.png` for a card `NAME.md`.
"""

import json
import math
import pathlib
import shlex

from absl import flags
from ml_collections import ConfigDict

from benchmarks import chart
from benchmarks.recipe import seconds_of_steps
from core import command
from core.errors import UserError
from core.folder import new_file
from core.frame_size import height_width
from core.params import count, partition, without_teacher
from evaluation import curves
from evaluation.protocol import flatten
from pipelines.stages import open_stage
from training import checkpoint
from training.plan import parameter_shapes

PARTS = 60  # of a run, over each of which the loss is averaged


def card(
  workdir: pathlib.Path,
  config_name: str,
  scores: list[dict],
  commit: str,
  machine: str,
  image: str,
) -> str:
  """The text of the model card of the run in a workdir.

  scores: files of scores, as `evaluation.protocol` describes them.
  commit, machine: with which, and on which, the run was trained.
  image: the name of the file of the curves.
  """
  config = checkpoint.load_config(workdir)
  params = parameter_shapes(open_stage(config))
  parameters = count(without_teacher(params))
  trained, _ = partition(params, config.trainable)
  step = checkpoint.latest_step(workdir)
  measured = curves.read(workdir / 'metrics.jsonl')
  held_out = next(name for name in measured if name.startswith('evaluation_loss'))
  flags_of = {'config': config_name, 'workdir': f'runs/{workdir.name}'}
  if config.init_from:
    flags_of['config.init_from'] = f'runs/{pathlib.Path(config.init_from).name}'
  for key in ('image', 'descriptor') if config.style else ():
    flags_of[f'config.style.{key}'] = config.style[key]
  command_line = shlex.join(['python', 'train.py', *(f'--{k}={v}' for k, v in flags_of.items())])
  rows = {
    'stage': config.stage,
    'frames': video_format(config),
    'parameters': f'{parameters:,}, of which {count(trained):,} were trained',
    'command': f'`{command_line}`',
    'commit': commit,
    'steps': f'{step:,} of {config.steps:,}, with {config.loader.batch} clips in each',
    'time': f'{seconds_of_steps(workdir) / 3600:.2f} hours of steps',
    'machine': machine,
    'loss': f'{measured[held_out][-1][1]:.4f} (`{held_out}`)',
  }
  for one in scores:
    numbers = {name: x for name, x in flatten(one['score']).items() if x is not None}
    text = ', '.join(f'{name} {x:.3g}' for name, x in numbers.items() if math.isfinite(x))
    rows[one['metric']] = f'{text}; {clips_of(one["protocol"])} clips'
  lines = [f'# Model card: {workdir.name}', '', '| | |', '|---|---|']
  lines += [f'| {name} | {value} |' for name, value in rows.items()]
  data = 'one picture' if config.style else 'the moving shapes of `data/synthetic.py`'
  lines += ['', f'It was trained on {data} alone.', '']
  lines += [f'![The losses of training and of held-out clips, over steps]({image})', '']
  return '\n'.join(lines)


def clips_of(protocol: dict) -> int:
  """The number of clips of a score; of several scores together, that of each."""
  return protocol['clips'] if 'clips' in protocol else next(iter(protocol.values()))['clips']


def video_format(config: ConfigDict) -> str:
  """How long and how large the videos are."""
  d = config.data
  height, width = height_width(d.size)
  return f'{d.frames} of {height}x{width} pixels at {d.fps:g} a second'


def losses(workdir: pathlib.Path) -> dict[str, chart.Curve]:
  """The logarithms of both losses over steps; that of training is averaged over parts of them."""
  measured = curves.read(workdir / 'metrics.jsonl')
  loss = measured['loss']
  size = max(1, len(loss) // PARTS)
  parts = [loss[i : i + size] for i in range(0, len(loss), size)]
  mean = lambda part: (part[-1][0], math.log10(sum(value for _, value in part) / len(part)))
  curve = next(values for name, values in measured.items() if name.startswith('evaluation_loss'))
  held_out = [(step, math.log10(value)) for step, value in curve]
  return {'training': [mean(part) for part in parts], 'held out': held_out}


def main() -> None:
  f = flags.FLAGS
  workdir, output = pathlib.Path(f.workdir), pathlib.Path(f.output)
  if output.suffix != '.md' or not output.parent.is_dir():
    raise UserError(f'--output={output}: allowed is a .md file in a folder that exists.')
  curves_file = 'curves.png' if output.stem == 'README' else f'{output.stem}_curves.png'
  scores = [json.loads(pathlib.Path(file).read_text('utf-8')) for file in f.scores]
  text = card(workdir, f.config_name, scores, f.commit, f.machine, curves_file)
  image = chart.line_chart(losses(workdir), x_label='step', y_label='log10 of the loss')
  chart.save(image, output.parent / curves_file)
  with new_file(output) as file:
    file.write_text(text, 'utf-8')
  print(text)


if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'Workdir of the run.', required=True)
  flags.DEFINE_string('output', None, 'File of the card, .md.', required=True)
  flags.DEFINE_string('config_name', None, 'Config and scale of the run.', required=True)
  flags.DEFINE_list('scores', [], 'Files of scores, .json.')
  flags.DEFINE_string('commit', None, 'Commit of the run.', required=True)
  flags.DEFINE_string('machine', None, 'Machine of the run.', required=True)
  command.run(main)
