"""Every command of this project as a call that takes seconds, with the models and inputs for it."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np

from benchmarks import runs
from core import command, video

SMALLEST = {
  'steps': 2,
  'save_every': 1,
  'evaluate_every': 0,
  'evaluate_batch': 2,
  'evaluate_times': 1,
  'loader.batch': 2,
  'data.frames': 4,
}
STILL = {'data.frames': 1}
LARGE = {'data.shorter_side': 16, 'sampling.window': 4}
# Each stage with the stage that it starts from and the changes to its config.
STAGES = {
  't2i': ('', STILL),
  't2v': ('t2i', {}),
  't2v_masked': ('t2v', {}),
  'ssr_image': ('', STILL | LARGE),
  'ssr': ('ssr_image', LARGE),
  'style': ('t2i', STILL | {'style.descriptor': 'in neon style', 'style.rank': 2}),
}
PICTURE = command.ROOT / 'checkpoints/demo/styles/neon.png'
IF, T5 = (command.ROOT / 'tests' / name for name in ('stunet/recorded/if_i', 'text/recorded/t5'))


@dataclasses.dataclass(frozen=True)
class Command:
  """A command that writes one file or folder."""

  name: str
  argv: tuple[str, ...]  # {out} stands for the path of the output
  out: str  # the name of the output
  # A pattern of files in the folder of the output that exist once the command is half-way.
  begun: str = '**/*'
  # The free blocks of a full disk.  With one, the command can begin but not write its output; if
  # the output may be smaller than a block, there are none.
  room: int = 1
  # Whether complete parts of the output stay after an interruption, to be resumed from.
  resumes: bool = False


def prepare(folder: pathlib.Path) -> None:
  """Trains a tiny model of each stage, and writes videos, images and lists, in the folder."""
  for stage, (start, changes) in STAGES.items():
    if (folder / stage / 'checkpoints' / '2').exists():
      continue
    options = [f'--config.init_from={folder / start}'] if start else []
    options += [f'--config.style.image={PICTURE}'] if stage == 'style' else []
    process = runs.start(
      folder / stage, SMALLEST | changes, config=f'configs/{stage}.py:tiny', options=options
    )
    runs.finished(process, folder / stage)
  rng = np.random.default_rng(0)
  for name in ('ours', 'theirs', 'real'):
    (folder / name).mkdir(exist_ok=True)
    lines = []
    for i in range(4):
      # Noise, which is large enough to fill more than one block of a disk.
      clip = rng.integers(0, 256, (20, 64, 64, 3)).astype(np.uint8)
      video.write(folder / name / f'{i}.mp4', clip)
      lines.append({'file': f'{i}.mp4', 'prompt': f'a red circle {i}', 'caption': f'noise {i}'})
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / name / 'index.jsonl').write_text(text)
  video.write(folder / 'clip.npy', rng.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8))
  video.write(folder / 'clip.mp4', rng.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8))
  (folder / 'list.txt').write_text('a red circle\na blue square\na white ring\n')
  for out, words in {
    'neon.npz': ('-m', 'pipelines.style', f'--workdir={folder}/style'),
    'if': ('convert.py', f'--from={IF}'),
  }.items():
    if not (folder / out).exists():
      line = [sys.executable, *words, f'--out={folder / out}']
      subprocess.run(line, cwd=command.ROOT, check=True, capture_output=True)


def all_commands(folder: pathlib.Path) -> list[Command]:
  """All commands, whose inputs `prepare` wrote to the folder."""
  changes = runs.CHANGES | SMALLEST | STILL | {'steps': 40, 'save_every': 4}
  train = [f'--config.{key}={value}' for key, value in changes.items()]
  yield Command(
    'train.py',
    ('train.py', '--config=configs/t2i.py:tiny', '--workdir={out}', *train),
    'run',
    begun='run/checkpoints/[0-9]*',
    resumes=True,
  )
  yield from _sample(folder)
  yield from _evaluate(folder)
  yield from _modules(folder)
  yield Command(
    'gallery.py',
    ('gallery.py', '--steps=1', '--output={out}'),
    'page',
    'page/text_to_video.mp4',
    resumes=True,
  )


def _sample(folder: pathlib.Path):
  base, masked = f'--workdir={folder}/t2v', f'--workdir={folder}/t2v_masked'
  image, box = f'--image={PICTURE}', '--box=2,2,4,4'
  clip = f'--video={folder}/clip.mp4'
  verbs = {
    'text_to_video': (base,),
    'image_to_video': (masked, image),
    'inpaint': (masked, clip, box),
    'outpaint': (masked, clip, '--pad=1,1,1,1'),
    'cinemagraph': (masked, image, box),
    'edit': (base, clip),
    'stylize': (base, f'--style={folder}/neon.npz'),
  }
  for (verb, options), extension in zip(
    verbs.items(), ('mp4', 'gif', 'webp', 'mp4', 'npy', 'png', 'mp4')
  ):
    # Upscaled so that the output fills more than one block of a disk.
    argv = ('sample.py', verb, *options, '--prompt=a ring', '--upscale=64', '--output={out}')
    yield Command(f'sample.py {verb} (.{extension})', argv, f'out.{extension}')
  yield Command(
    'sample.py with --prompts_file',
    ('sample.py', base, f'--prompts_file={folder}/list.txt', '--upscale=64', '--output={out}'),
    'videos',
    begun='videos/*.mp4',
    resumes=True,
  )


def _evaluate(folder: pathlib.Path):
  ours, model = f'--videos={folder}/ours', f'--workdir={folder}/t2v'
  verbs = {
    'fvd': (ours, f'--reference={folder}/real', '--i3d=random:0', '--frames=16'),
    'inception_score': (ours, '--c3d=random:0'),
    'motion': (ours,),
    'shapes': (model, '--count=1', '--steps=1'),
    'applications': (
      model, f'--masked_workdir={folder}/t2v_masked', f'--styles={folder}/none', '--clips=1'
    ),
  }  # fmt: skip
  (folder / 'none').mkdir(exist_ok=True)
  for verb, options in verbs.items():
    argv = ('evaluate.py', verb, *options, '--output={out}')
    yield Command(f'evaluate.py {verb}', argv, 's.json', room=0)
  lists = f'--prompts={folder}/list.txt'
  yield Command(
    'evaluate.py prompts',
    ('evaluate.py', 'prompts', lists, model, '--extension=.npy', '--samples={out}'),
    'samples',
    begun='samples/*.npy',
    resumes=True,
  )
  yield Command(
    'evaluate.py ucf101',
    ('evaluate.py', 'ucf101', ours, '--c3d=random:0', '--output={out}'),
    's.json',
  )
  yield Command(
    'evaluate.py xt_slice', ('evaluate.py', 'xt_slice', ours, '--output={out}'), 'slices.png'
  )
  study = ('user_study', f'--ours={folder}/ours', f'--theirs={folder}/theirs', '--pairs=4')
  yield Command('evaluate.py user_study', ('evaluate.py', *study, '--study={out}'), 'study')
  yield Command(
    'evaluate.py report', ('evaluate.py', 'report', model, '--output={out}'), 'report.html'
  )


def _modules(folder: pathlib.Path):
  ours = f'--captions={folder}/ours/index.jsonl'
  calls = {
    'data.builder': ((f'--videos={folder}/ours', ours, '--min_frames=8'), 'set'),
    'pipelines.style': ((f'--workdir={folder}/style',), 'neon.npz'),
    'training.export': ((f'--workdir={folder}/t2v',), 'model'),
    'convert.py': ((f'--from={IF}',), 'image'),
    'convert.py --to_diffusers': (('--to_diffusers', f'--from={folder}/if'), 'unet'),
    'text.convert': ((f'--from={T5}',), 'text'),
  }
  for name, (options, out) in calls.items():
    script = name.split()[0]
    words = (script,) if script.endswith('.py') else ('-m', script)
    # The builder keeps its work beside the dataset until that is complete.
    resumes = name == 'data.builder'
    yield Command(name, (*words, *options, '--out={out}'), out, resumes=resumes)
