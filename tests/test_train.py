"""`train.py` as it is called: what it leaves, and that a killed run ends as if it had not been."""

import importlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import av
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import flags

from configs import ssr, ssr_image, t2i, t2v
from core import video
from core.condition import Condition
from core.params import matches, names
from stunet.inflate import TEMPORAL
from stunet.unet import STUNet
from tests.conftest import TINY
from tests.oracles import random_params
from training import checkpoint
from training.phases import Clock
from training.state import State

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT = 'a red circle growing on a black background'
STEPS, SAVE_EVERY = 80, 10
CHANGES = {
  'steps': STEPS,
  'log_every': 1,
  'save_every': SAVE_EVERY,
  'evaluate_every': 40,
  'evaluate_batch': 2,
  'evaluate_times': 2,
  'sample_every': 0,
  'sample_prompts': (PROMPT,),
  'sampling.steps': 1,
  'loader.batch': 2,
  'data.size': 8,
  'data.frames': 4,
  'text.width': 8,
  **{f'model.{key}': value for key, value in TINY.items()},
}
ENVIRONMENT = {
  **os.environ,
  'JAX_COMPILATION_CACHE_DIR': str(ROOT / '.jax_cache'),
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  'XLA_FLAGS': '--xla_backend_optimization_level=0',  # compiles twice as fast
}


class Nothing(Iterator):
  """Stands for the data."""

  def __next__(self):
    raise StopIteration

  def get_state(self):
    return {}


def changed(config):
  config.update_from_flattened_dict(CHANGES)
  return config


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Where the runs are, with an image model of random weights."""
  path = tmp_path_factory.mktemp('runs')
  config = changed(t2i.get_config('tiny'))
  config.data.frames = 1
  x, t = jnp.zeros((1, 1, 8, 8, 3)), jnp.zeros(1)
  cond = Condition(jnp.zeros((1, config.text.tokens, config.text.width)))
  model = STUNet(**config.model)
  params = random_params(jax.eval_shape(model.init, jax.random.key(0), x, t, cond)['params'])
  checkpoint.save_config(path / 't2i', config)
  with checkpoint.manager(path / 't2i') as checkpoints:
    checkpoint.save(checkpoints, State(jnp.asarray(1), params, params, {}, {}), Nothing())
  return path


def start(folder, name):
  """Begins the command which trains, or resumes, the run of this name."""
  arguments = [f'--config.{key}={value!r}' for key, value in CHANGES.items()]
  arguments = [argument.replace("='", '=').removesuffix("'") for argument in arguments]
  paths = [f'--workdir={folder / name}', f'--config.init_from={folder / "t2i"}']
  command = [sys.executable, 'train.py', '--config=configs/t2v.py:tiny', *paths, *arguments]
  return subprocess.Popen(
    command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )


def finish(run):
  output, _ = run.communicate()
  assert run.returncode == 0, output
  return output


@pytest.fixture(scope='module')
def whole(folder):
  """A run that nothing interrupts, and what it printed."""
  return folder / 'whole', finish(start(folder, 'whole'))


def lines(workdir):
  path = workdir / 'metrics.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def saved(workdir, part):
  """The bytes of all arrays of a part of the last checkpoint, or of `frozen`, by name."""
  path = workdir / 'frozen' if part == 'frozen' else workdir / f'checkpoints/{STEPS}/{part}'
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with ocp.StandardCheckpointer() as checkpointer:
    tree = checkpointer.metadata(path).item_metadata.tree
    like = lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=here)
    tree = checkpointer.restore(path, jax.tree.map(like, tree))
  return {
    jax.tree_util.keystr(name, simple=True, separator='/'): (x.dtype, np.asarray(x).tobytes())
    for name, x in jax.tree_util.tree_leaves_with_path(tree)
  }


def test_a_killed_run_ends_as_one_that_was_not(folder, whole):
  step = random.randrange(SAVE_EVERY + 1, STEPS // 2)
  run = start(folder, 'killed')
  killed = folder / 'killed'
  checkpoints = killed / 'checkpoints'
  while not (lines(killed)[-1:] and lines(killed)[-1]['step'] >= step and _complete(checkpoints)):
    assert run.poll() is None, run.communicate()[0]
    time.sleep(0.002)
  run.send_signal(signal.SIGKILL)
  run.communicate()
  assert run.returncode == -signal.SIGKILL
  before = lines(killed)
  assert before[-1]['step'] < STEPS

  # All that it needs is in its own workdir.
  shutil.move(folder / 't2i', folder / 'gone')
  try:
    finish(start(folder, 'killed'))
  finally:
    shutil.move(folder / 'gone', folder / 't2i')
  after = lines(killed)[len(before) :]
  assert SAVE_EVERY <= after[0]['step'] <= before[-1]['step'] + 1  # from a checkpoint on

  workdir, _ = whole
  said = f'killed at step {before[-1]["step"]}'
  for part in ('ema', 'train', 'frozen'):
    want, got = saved(workdir, part), saved(killed, part)
    assert got.keys() == want.keys()
    assert [name for name in want if got[name] != want[name]] == [], said
  position = f'checkpoints/{STEPS}/data/metadata'
  assert json.loads((killed / position).read_text()) == {'batches': STEPS}
  assert (killed / position).read_bytes() == (workdir / position).read_bytes()

  losses = {line['step']: line['loss'] for line in lines(workdir) if 'loss' in line}
  for line in (*before, *after):
    assert 'loss' not in line or line['loss'] == losses[line['step']], said


def _complete(checkpoints):
  return checkpoints.exists() and any(path.name.isdigit() for path in checkpoints.iterdir())


def test_the_temporal_parameters_alone_change(folder, whole):
  workdir, printed = whole
  frozen, trained = saved(workdir, 'frozen'), saved(workdir, 'train')
  image = names(checkpoint.load(folder / 't2i')[1])
  assert frozen == {name: (p.dtype, np.asarray(p).tobytes()) for name, p in image.items()}

  _, params, step = checkpoint.load(workdir)
  params = names(params)
  assert step == STEPS
  assert {name for name in params if not matches(name, TEMPORAL)} == image.keys()
  for name, value in image.items():
    assert np.asarray(params[name]).tobytes() == np.asarray(value).tobytes()

  held = {name for name in trained if name.startswith('params/')}
  temporal = {name for name in params if matches(name, TEMPORAL)}
  assert {name.removeprefix('params/') for name in held} == temporal
  zero_at_birth = [name for name in temporal if name.endswith('/proj/kernel')]
  assert zero_at_birth
  assert all(np.abs(params[name]).max() > 0 for name in zero_at_birth)

  numbers = lambda names: sum(params[name].size for name in names)
  said = f'{numbers(temporal):,} parameters to train, {numbers(image):,} frozen'
  assert said in printed


def test_the_workdir_says_what_the_run_was(folder, whole):
  workdir, _ = whole
  config = changed(t2v.get_config('tiny'))
  config.init_from = str(folder / 't2i')
  assert json.loads((workdir / 'config.json').read_text()) == json.loads(config.to_json())

  told = lines(workdir)
  losses = [line for line in told if 'loss' in line]
  assert [line['step'] for line in losses] == list(range(1, STEPS + 1))
  assert all(np.isfinite(line['loss']) and line['frames_per_s'] > 0 for line in losses)
  evaluated = {line['step']: line['evaluation_loss'] for line in told if 'evaluation_loss' in line}
  assert sorted(evaluated) == [0, 40, STEPS]
  assert list((workdir / 'tensorboard').glob('events.*'))
  kept = sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir())
  assert kept == [STEPS - 2 * SAVE_EVERY, STEPS - SAVE_EVERY, STEPS]


def test_samples_are_videos_of_the_prompts(whole):
  folder = whole[0] / 'samples'
  assert sorted(path.name for path in folder.iterdir()) == [f'step_{STEPS:08}']
  path = folder / f'step_{STEPS:08}'
  assert sorted(p.name for p in path.iterdir()) == ['0.mp4', '0_xt.png']
  assert video.read_metadata(path / '0.mp4') == {'prompt': PROMPT, 'step': str(STEPS)}
  with av.open(str(path / '0.mp4')) as container:
    assert len(list(container.decode(video=0))) == 4


FLAGS = ('config', 'workdir', 'coordinator', 'num_processes', 'process_id')


@pytest.fixture
def train():
  """The script; its flags, of which other scripts have some too, are gone afterwards."""
  others = {name: flags.FLAGS[name] for name in FLAGS if name in flags.FLAGS}
  for name in others:
    delattr(flags.FLAGS, name)
  yield importlib.import_module('train')
  del sys.modules['train']
  for name in FLAGS:
    delattr(flags.FLAGS, name)
  for name, flag in others.items():
    flags.FLAGS[name] = flag


def test_super_resolution_is_trained_in_two_stages(train, tmp_path):
  """Of crops of larger frames; the second trains no parameter of the first."""
  few = {'steps': 2, 'data.shorter_side': 16, 'evaluate_every': 0, 'save_every': 0}
  few |= {'loader.batch': 8, 'evaluate_batch': 8}  # one for each device
  image, video_ = (stage.get_config('tiny') for stage in (ssr_image, ssr))
  for config in (image, video_):
    config.update_from_flattened_dict(CHANGES | few)
  image.data.frames = 1
  train.train(image, tmp_path / 'ssr_image', Clock())
  video_.init_from = str(tmp_path / 'ssr_image')
  train.train(video_, tmp_path / 'ssr', Clock())

  before, after = (names(checkpoint.load(tmp_path / name)[1]) for name in ('ssr_image', 'ssr'))
  for name, value in before.items():
    np.testing.assert_array_equal(after[name], value, err_msg=name)
  assert all(matches(name, TEMPORAL) for name in after.keys() - before.keys())
  samples = tmp_path / 'ssr/samples/step_00000002'
  assert sorted(path.name for path in samples.iterdir()) == ['0.mp4', '0_xt.png']
  losses = [
    line['evaluation_loss'] for line in lines(tmp_path / 'ssr') if 'evaluation_loss' in line
  ]
  assert np.isfinite(losses).all()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'mesh': (('data', 3), ('fsdp', 1))}, 'A mesh of 3x1 does not fit 8 devices'),
    ({'schedule.schedule': 'sine'}, "Unknown schedule: 'sine'"),
    ({'data.frames': 5}, '5 frames do not divide by the temporal factor 2'),
    ({'optim.name': 'sgd'}, "optim.name is 'sgd'"),
    ({'text.tokens': 0}, 'Got tokens=0'),
    ({'data.source': '/none'}, "Got the source '/none'"),
    ({'model.resample': 'pool'}, "resample is 'pool'"),
    ({'model.patch': 3}, 'Frames of 8x8 pixels do not divide by 6.'),
  ],
)
def test_a_wrong_config_is_refused_before_anything_is_made(train, tmp_path, change, message):
  config = changed(t2v.get_config('tiny'))
  config.update_from_flattened_dict(change)
  with pytest.raises(ValueError, match=r'.+') as error:
    train.train(config, tmp_path / 'run', Clock())
  assert message in str(error.value)
  assert list(tmp_path.iterdir()) == []
