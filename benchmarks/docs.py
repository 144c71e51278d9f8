r"""Runs the commands of README.md and docs/, shortened: make docs-check

  python -m benchmarks.docs --only=README

Each command of a shell block runs, once however often it occurs, in a scratch folder that sees the
files of the repository and has inputs with the names that the pages use.  Trainings take two steps
of a tiny network, samplers two steps.  A line is printed for each command; the exit status is 1 if
one failed.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np
from absl import flags
from PIL import Image

from core import command, video
from data import synthetic

# Commands that need what is not here: a pattern, and what it needs.
NOT_RUN = {
  r'^make (demo|test|gallery|test-parity|docs-check)$': 'CI runs it, or it runs this',
  r'^python gallery\.py': 'tests/test_gallery.py runs it; it takes minutes',
  r'\bIF-I|runs/if_|:if_|if_m_|IF-in-': "DeepFloyd IF's weights; tests/test_pretrained.py has some",
  r'stable-diffusion|runs/sd15': "Stable Diffusion's weights; tests/test_convert.py has some",
  r'--compile_for': "a TPU's compiler; .ci/run installs it and runs such a command",
  r'^(pip|hf|gcloud|srun|sbatch|docker|\.|launch/)': 'a network, a cloud or a cluster',
  r'text\.(convert|embed)|=t5_': 'weights of T5; tests/test_train_embeddings.py has some',
  r'from_torch|torch_python': 'torch; make test-parity',
  r'score_every': 'weights of I3D; tests/evaluation/test_in_training.py scores a training',
}
# What is replaced in the commands that are run.
SHORTER = {
  # A style stays at scale demo: it is of a model that ships, which samples it afterwards.
  r'(configs/(?!style)\w+\.py):demo(_sparse)?': r'\1:tiny',
  r'TEXT': 'a red circle moving right on a black background',
  r'=checkpoints/demo/(t2i|t2v|t2v_masked|ssr)$': r'=exported/\1',
  r'=i3d\.safetensors|=c3d\.safetensors': '=random:0',
  r'--count=\d+': '--count=2',
  r'--clips=\d+': '--clips=1',
  r'--min_frames=\d+': '--min_frames=4',
}
# The folders of the repository that commands see.  Others may be the user's own, such as clips/,
# and the inputs would be written into them.
LINKED = (
  'autoencoder', 'benchmarks', 'checkpoints', 'configs', 'core', 'data', 'diffusion', 'evaluation',
  'pipelines', 'ssr', 'stunet', 'text', 'training',
)  # fmt: skip
TRAIN = (
  '--config.steps=2', '--config.loader.batch=2', '--config.evaluate_times=1',
  '--config.evaluate_batch=2', '--config.evaluate_clips=2', '--config.sampling.steps=1',
)  # fmt: skip
SAMPLE = ('--steps=2',)
BUILD = ('--overwrite',)  # Two pages build the same dataset.


def pages() -> list[pathlib.Path]:
  """README.md and the pages of docs/."""
  return [command.ROOT / 'README.md', *sorted((command.ROOT / 'docs').glob('*.md'))]


def commands(text: str) -> list[list[str]]:
  """The commands in the shell blocks of a page, as lists of words."""
  blocks = re.findall(r'```sh\n(.*?)```', text, re.DOTALL)
  lines = ''.join(blocks).replace('\\\n', ' ').splitlines()
  return [words for line in lines if (words := shlex.split(line, comments=True))]


def substituted(words: list[str]) -> list[str]:
  """The command that is run in place of one of the pages."""
  export = 'training.export' in words
  result = []
  for word in words:
    for pattern, to in SHORTER.items():
      if not to.startswith('=exported') or (export and word.startswith('--out=')):
        word = re.sub(pattern, to, word)
    result.append(word)
  shorter = {
    'train.py': TRAIN, 'benchmarks.initialisation': TRAIN, 'sample.py': SAMPLE,
    'data.builder': BUILD,
  }  # fmt: skip
  name = next((word for word in words[1:] if word in shorter), '')
  set_already = {word.split('=')[0] for word in words}
  return result + [o for o in shorter.get(name, ()) if o.split('=')[0] not in set_already]


def reason_not_to_run(words: list[str]) -> str | None:
  """What the command needs that is not here, or None."""
  line = ' '.join(words)
  return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, line)), None)


def prepare(folder: pathlib.Path) -> None:
  """Links the repository's code and models, and writes the inputs that the pages name."""
  for path in [*command.ROOT.glob('*.py'), *(command.ROOT / name for name in LINKED)]:
    if path.exists():
      (folder / path.name).symlink_to(path)
  (folder / 'exported').mkdir()
  facts = dict(size=128, frames=80, fps=16.0, seed=9)
  clips = [synthetic.clip(i, **facts) for i in range(4)]
  for name in ('clips', 'samples', 'others'):
    (folder / name / 'soccer').mkdir(parents=True)
    lines = []
    for i, clip in enumerate(clips):
      file = ('lion.mp4', 'soccer/juggling_01.mp4', f'{i}.mp4', f'{i}.mp4')[i]
      video.write(folder / name / file, clip['video'], fps=16.0)
      text = clip['caption']
      lines.append(json.dumps({'file': file, 'caption': text, 'prompt': text}) + '\n')
    index = 'captions.jsonl' if name == 'clips' else 'index.jsonl'
    (folder / name / index).write_text(''.join(lines))
  video.write(folder / 'clip.mp4', clips[0]['video'], fps=16.0)
  Image.fromarray(clips[0]['video'][0]).save(folder / 'photo.jpg')
  mask = np.zeros((128, 128), np.uint8)
  mask[32:96, 32:96] = 255
  Image.fromarray(mask).save(folder / 'mask.png')
  Image.fromarray(clips[1]['video'][0]).save(folder / 'neon.png')


def examples(only: Sequence[str]) -> list[tuple[str, list[str]]]:
  """The commands and the Python of these pages, or of all, in order; each once, with its page."""
  page_of = {}
  for page in pages():
    if only and page.stem not in only:
      continue
    text = page.read_text('utf-8')
    code = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    for words in [*commands(text), *(['python', '-c', block] for block in code)]:
      page_of.setdefault(tuple(words), page.name)
  return [(page, [*words]) for words, page in page_of.items()]


def run(folder: pathlib.Path) -> Iterator[tuple[str, str, str, str]]:
  """The page, the command, what became of it, and its last lines if it failed, in order."""
  environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': str(command.ROOT / '.jax_cache')}
  environment['XLA_FLAGS'] = '--xla_backend_optimization_level=0'
  options = dict(cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
  for page, words in examples(flags.FLAGS.only):
    line = shlex.join(words if '-c' not in words else ['python', '-c', '...'])
    if why := reason_not_to_run(words):
      yield page, line, f'not run: {why}', ''
      continue
    argv = [sys.executable if word == 'python' else word for word in substituted(words)]
    start = time.monotonic()
    try:
      done = subprocess.run(argv, check=False, **options)
    except subprocess.TimeoutExpired as error:
      yield page, line, 'FAILED', str(error)
      continue
    if done.returncode == 0:
      yield page, line, f'ok, {time.monotonic() - start:.0f} s', ''
    else:
      yield page, line, 'FAILED', (done.stdout + done.stderr)[-1500:]


def main() -> None:
  failed = 0
  with tempfile.TemporaryDirectory() as folder:
    prepare(pathlib.Path(folder))
    for page, line, result, tail in run(pathlib.Path(folder)):
      print(f'{page}: {line[:100]}: {result}', flush=True)
      if tail:
        print(tail)
      failed += result == 'FAILED'
  sys.exit(min(failed, 1))


if __name__ == '__main__':
  flags.DEFINE_list('only', [], 'Names of pages, without .md, to run alone; by default all.')
  command.run(main)
