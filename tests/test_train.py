"""`train.py` as it is called: what it leaves, and that a killed run ends as if it had not been."""

import json
import random
import shutil
import signal
from collections.abc import Iterator

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import runs
from configs import t2i, t2v
from core import video
from core.condition import Condition
from core.params import matches, names
from stunet.inflate import TEMPORAL
from stunet.unet import STUNet
from tests.oracles import random_params
from tests.tiny_run import CHANGES, PROMPT, SMALLEST, changed
from training import checkpoint
from training.state import State

STEPS, SAVE_EVERY = runs.STEPS, runs.EVERY
# Put before a run whose samples and evaluation no test looks at: to compile them takes long.
STEPS_ALONE = """
import train
train.make_write_samples = lambda *args: lambda params, step: None
train.make_evaluate = lambda *args: lambda params: {'evaluation_loss': 0.0}
"""


class Nothing(Iterator):
  """Stands for the data."""

  def __next__(self):
    raise StopIteration

  def get_state(self):
    return {}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Where the runs are, with an image model of random weights."""
  path = tmp_path_factory.mktemp('runs')
  config = changed(t2i.get_config('tiny'))
  config.update_from_flattened_dict(SMALLEST | {'data.frames': 1})
  x, t = jnp.zeros((1, 1, 8, 8, 3)), jnp.zeros(1)
  cond = Condition(jnp.zeros((1, config.text.tokens, config.text.width)))
  model = STUNet(**config.model)
  params = random_params(jax.eval_shape(model.init, jax.random.key(0), x, t, cond)['params'])
  checkpoint.save_config(path / 't2i', config)
  with checkpoint.manager(path / 't2i') as checkpoints:
    checkpoint.save(checkpoints, State(jnp.asarray(1), params, params, {}, {}), Nothing())
  return path


def start(folder, name, changes=CHANGES, **more):
  """Begins the command which trains, or resumes, the run of this name."""
  options = [f'--config.init_from={folder / "t2i"}']
  return runs.start(
    folder / name, changes | SMALLEST, config='configs/t2v.py:tiny', options=options, **more
  )


@pytest.fixture(scope='module')
def uninterrupted(folder):
  """A run that nothing interrupts, and what it printed."""
  workdir = folder / 'uninterrupted'
  runs.finished(start(folder, 'uninterrupted'), workdir)
  return workdir, runs.log(workdir).read_text()


def test_a_run_that_is_killed_and_stopped_ends_as_one_that_was_not(folder, uninterrupted):
  killed = folder / 'killed'
  begin = lambda: start(folder, 'killed', CHANGES | {'scores.metrics': ()}, before=STEPS_ALONE)
  run, at = begin(), random.randrange(SAVE_EVERY + 1, STEPS // 2)
  saved = lambda: any(path.name.isdigit() for path in killed.glob('checkpoints/*'))
  assert runs.wait_until(lambda: saved() and max(runs.losses(killed), default=0) >= at, run)
  runs.kill(run)
  came = max(runs.losses(killed))

  # All that it needs is in its own workdir.
  shutil.move(folder / 't2i', folder / 'gone')
  try:
    run = begin()
    assert runs.wait_until(lambda: len(runs.starts(killed)) == 2, run)
    run.send_signal(signal.SIGTERM)
    runs.finished(run, killed)
    stopped = [line['step'] for line in runs.lines(killed) if 'loss' in line][-1]
    message = f'Stopped after step {stopped} of {STEPS}.  What resumes it: '
    assert message in runs.log(killed).read_text()
    runs.finished(begin(), killed)
  finally:
    shutil.move(folder / 'gone', folder / 't2i')

  _, second, third = runs.starts(killed)
  assert came - SAVE_EVERY <= second <= came
  assert third == stopped
  workdir, _ = uninterrupted
  want, got = (runs.arrays(path, STEPS) for path in (workdir, killed))
  assert got.keys() == want.keys()
  context = f'killed at step {came}, stopped at {stopped}'
  assert [name for name in want if got[name] != want[name]] == [], context
  assert json.loads(want['data'])['batches'] == STEPS
  losses = runs.losses(workdir)
  for line in runs.lines(killed):
    assert 'loss' not in line or line['loss'] == losses[line['step']], context


def test_two_processes_are_one(folder, uninterrupted):
  """Of a run that was begun by one of them, to which the other comes later."""
  one, _ = uninterrupted
  two, saved = folder / 'two', STEPS - SAVE_EVERY
  shutil.copytree(one, two)
  shutil.rmtree(two / f'checkpoints/{STEPS}')
  for name in ('samples', 'evaluation'):
    shutil.rmtree(two / name)
  few = CHANGES | SMALLEST | {'scores.metrics': ('shapes',), 'scores.videos': 1}
  options = [f'--config.init_from={folder / "t2i"}']
  config = 'configs/t2v.py:tiny'
  for process in runs.many_processes(2, two, few, config=config, options=options):
    runs.finished(process, two)
  assert runs.starts(two) == [0, saved]
  want = runs.losses(one)
  got = [line for line in runs.lines(two) if 'loss' in line][STEPS:]
  assert [line['step'] for line in got] == list(range(saved + 1, STEPS + 1))
  for line in got:
    assert line['loss'] == pytest.approx(want[line['step']], rel=1e-5)
  assert (two / f'evaluation/step_{STEPS:08}/shapes.json').is_file()
  assert (two / f'samples/step_{STEPS:08}/0.mp4').is_file()


def test_two_processes_begin_from_the_model_of_one(folder, uninterrupted):
  """Which each of them reads for its own devices."""
  workdir = folder / 'begun'
  few = {'steps': 3, 'mesh': "(('data',1),('fsdp',-1))", 'scores.metrics': ()}
  options = [f'--config.init_from={folder / "t2i"}']
  config = 'configs/t2v.py:tiny'
  for process in runs.many_processes(
    2, workdir, CHANGES | SMALLEST | few, config=config, options=options, before=STEPS_ALONE
  ):
    runs.finished(process, workdir)
  want, got = runs.losses(uninterrupted[0]), runs.losses(workdir)
  assert sorted(got) == [1, 2, 3]
  for step, loss in got.items():
    assert loss == pytest.approx(want[step], rel=1e-5)


def test_the_temporal_parameters_alone_change(folder, uninterrupted):
  workdir, printed = uninterrupted
  saved = runs.arrays(workdir, STEPS)
  arrays_in = lambda part: {n.removeprefix(part): v for n, v in saved.items() if n.startswith(part)}
  image = names(checkpoint.load(folder / 't2i')[1])
  assert arrays_in('frozen/') == {name: np.asarray(p).tobytes() for name, p in image.items()}

  _, params, step = checkpoint.load(workdir)
  params = names(params)
  assert step == STEPS
  assert {name for name in params if not matches(name, TEMPORAL)} == image.keys()
  for name, value in image.items():
    assert np.asarray(params[name]).tobytes() == np.asarray(value).tobytes()

  temporal = {name for name in params if matches(name, TEMPORAL)}
  assert arrays_in('train/params/').keys() == temporal
  zero_at_birth = [name for name in temporal if name.endswith('/proj/kernel')]
  assert zero_at_birth
  assert all(np.abs(params[name]).max() > 0 for name in zero_at_birth)

  numbers = lambda names: sum(params[name].size for name in names)
  output = f'{numbers(temporal):,} parameters to train, {numbers(image):,} frozen'
  assert output in printed


def test_the_workdir_says_what_the_run_was(folder, uninterrupted):
  workdir, _ = uninterrupted
  config = changed(t2v.get_config('tiny'))
  config.update_from_flattened_dict(SMALLEST)
  config.init_from = str(folder / 't2i')
  assert json.loads((workdir / 'config.json').read_text()) == json.loads(config.to_json())

  lines = runs.lines(workdir)
  losses = [line for line in lines if 'loss' in line]
  assert [line['step'] for line in losses] == list(range(1, STEPS + 1))
  assert all(np.isfinite(line['loss']) and line['frames_per_s'] > 0 for line in losses)
  evaluated = {line['step']: line['evaluation_loss'] for line in lines if 'evaluation_loss' in line}
  assert sorted(evaluated) == [0, STEPS // 2, STEPS]
  assert list((workdir / 'tensorboard').glob('events.*'))
  kept = sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir())
  assert kept == [STEPS - 2 * SAVE_EVERY, STEPS - SAVE_EVERY, STEPS]


def test_samples_are_videos_of_the_prompts(uninterrupted):
  folder = uninterrupted[0] / 'samples'
  assert sorted(path.name for path in folder.iterdir()) == [f'step_{STEPS:08}']
  path = folder / f'step_{STEPS:08}'
  assert sorted(p.name for p in path.iterdir()) == ['0.mp4', '0_xt.png']
  assert video.read_metadata(path / '0.mp4') == {'prompt': PROMPT, 'step': str(STEPS)}
  with av.open(str(path / '0.mp4')) as container:
    assert len(list(container.decode(video=0))) == 4


def test_scores_are_in_metrics_and_with_their_protocol(uninterrupted):
  workdir, _ = uninterrupted
  folder = workdir / 'evaluation' / f'step_{STEPS:08}'
  kept = json.loads((folder / 'motion.json').read_text())
  assert kept['protocol']['clips'] == 2
  lines = [line for line in runs.lines(workdir) if 'motion/motion' in line]
  assert [line['step'] for line in lines] == [STEPS]
  assert lines[0]['motion/motion'] == kept['score']['motion']
  assert sorted(p.suffix for p in (folder / 'videos').iterdir()) == ['.jsonl', '.mp4', '.mp4']


def test_super_resolution_is_trained_in_two_stages(tmp_path):
  """Of crops of larger frames; the second trains no parameter of the first."""
  few = CHANGES | SMALLEST
  few |= {
    'steps': 2,
    'data.shorter_side': 16,
    'evaluate_every': 0,
    'save_every': 0,
    'scores.metrics': (),
  }
  image, both = tmp_path / 'ssr_image', tmp_path / 'ssr'
  changes, config = few | {'data.frames': 1}, 'configs/ssr_image.py:tiny'
  runs.finished(runs.start(image, changes, config=config, before=STEPS_ALONE), image)
  run = runs.start(both, few, config='configs/ssr.py:tiny', options=[f'--config.init_from={image}'])
  runs.finished(run, both)

  before, after = (names(checkpoint.load(tmp_path / name)[1]) for name in ('ssr_image', 'ssr'))
  for name, value in before.items():
    np.testing.assert_array_equal(after[name], value, err_msg=name)
  assert all(matches(name, TEMPORAL) for name in after.keys() - before.keys())
  samples = tmp_path / 'ssr/samples/step_00000002'
  assert sorted(path.name for path in samples.iterdir()) == ['0.mp4', '0_xt.png']
  [loss] = [line['evaluation_loss'] for line in runs.lines(both) if 'evaluation_loss' in line]
  assert np.isfinite(loss)
