"""`sample.py` and `evaluate.py` in several processes that make each video together."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from configs import ssr, t2v
from core import command
from pipelines import pipeline
from pipelines.model import Model
from tests.conftest import PLAIN
from tests.scripts import call, save, script

PROMPT = 'a red circle moving right on a black background'
# A command in one of two processes; it notes the bytes of its parameters, and what it has made.
WORKER = """
import jax
from core import command
from tests import test_sample_together  # and with it conftest, which asks for 8 devices
import {name}
jax.config.update('jax_num_cpu_devices', 1)
test_sample_together.watch(test_sample_together.pathlib.Path({notes!r}))
command.run_verb({name}.VERBS, {name}.__doc__)
"""


def watch(notes, patch=setattr):
  """Notes, in files that begin so, a video in floats and the bytes of each model's parameters."""
  to_host, with_params, seen = pipeline.to_host, Model.with_sharded_params, []

  def noted(frames):
    np.save(notes.with_suffix('.npy'), frames)
    return to_host(frames)

  def weighed(model, params):
    import jax

    leaves = jax.tree.leaves(params)
    seen.append(sum(shard.data.nbytes for p in leaves for shard in p.addressable_shards))
    notes.with_suffix('.json').write_text(json.dumps(seen))
    return with_params(model, params)

  patch(pipeline, 'to_host', noted)
  patch(Model, 'with_sharded_params', weighed)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """A video model, and beside it one of super-resolution in windows of 4 of its 6 frames."""
  folder = tmp_path_factory.mktemp('runs')
  base, upscaler = t2v.get_config('tiny'), ssr.get_config('tiny')
  for config in (base, upscaler):
    config.model.update(PLAIN)
    config.sampling.update(steps=1)
    config.shard_above = 16
  base.data.frames = 6
  upscaler.sampling.update(window=4, overlap=2)
  save(folder / 't2v', base)
  save(folder / 'ssr', upscaler)
  return folder


def two(name, notes, *argv):
  """Runs a command in two processes; the exit status and the lines on stderr of each."""
  with socket.socket() as one:
    one.bind(('localhost', 0))
    port = one.getsockname()[1]
  environment = os.environ | {
    'PYTHONPATH': str(command.ROOT),
    'JAX_COMPILATION_CACHE_DIR': str(command.ROOT / '.jax_cache'),
  }
  pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
  started = []
  for i in range(2):
    code = WORKER.format(name=name, notes=str(notes.with_name(f'{notes.name}{i}')))
    who = (f'--coordinator=localhost:{port}', '--num_processes=2', f'--process_id={i}')
    arguments = [f'{name}.py', *map(str, argv), *who]
    line = [sys.executable, '-c', f'import sys; sys.argv = {arguments!r}\n{code}']
    started.append(subprocess.Popen(line, cwd=notes.parent, **pipes))
  printed = [process.communicate(timeout=300) for process in started]
  return [
    (process.returncode, out.splitlines(), err.splitlines())
    for process, (out, err) in zip(started, printed)
  ]


def test_two_processes_make_the_video_of_one_with_half_of_the_parameters_each(
  models, tmp_path, monkeypatch
):
  argv = 'text_to_video', f'--prompt={PROMPT}', f'--workdir={models / "t2v"}', '--seed=5'
  watch(tmp_path / 'alone', monkeypatch.setattr)
  with script('sample') as sample:
    assert call(sample, *argv, f'--output={tmp_path / "one.npy"}')[0] == 0
  (tmp_path / 'many').mkdir()
  ended = two('sample', tmp_path / 'many', *argv, '--output=many/two.npy')
  assert [status for status, *_ in ended] == [0, 0], ended
  assert 'many/two.npy' in ended[0][1]
  assert not any('two.npy' in line or 'made in' in line for line in ended[1][1])
  assert os.listdir(tmp_path / 'many') == ['two.npy']

  want = np.load(tmp_path / 'alone.npy')
  assert want.std() > 0.02
  for i in range(2):
    np.testing.assert_allclose(np.load(tmp_path / f'many{i}.npy'), want, rtol=0, atol=1e-5)
    some, whole = (
      json.loads((tmp_path / f'{name}.json').read_text()) for name in (f'many{i}', 'alone')
    )
    assert len(some) == len(whole) == 2
    assert all(part <= 0.6 * all_of_it for part, all_of_it in zip(some, whole)), (some, whole)


def test_a_mistake_that_the_first_process_finds_is_one_line_in_each(models, tmp_path):
  """It alone looks at what it writes."""
  folder = tmp_path / 'out' / '000_a_ring.mp4'
  folder.mkdir(parents=True)
  (tmp_path / 'prompts.txt').write_text('a ring\n')
  argv = 'text_to_video', '--prompts_file=prompts.txt', f'--workdir={models / "t2v"}'
  (first, _, error), (second, _, other) = two('sample', tmp_path / 'notes', *argv)
  reason = 'Cannot write out/000_a_ring.mp4: Is a directory.'
  assert (first, error) == (2, [f'error: {reason}'])
  assert (second, other) == (2, [f'error: process 0 failed: UserFileError: {reason}'])
  assert sorted(path.name for path in pathlib.Path(tmp_path).rglob('*')) == [
    '000_a_ring.mp4', 'out', 'prompts.txt'
  ]  # fmt: skip
