"""`train.py` as it is called: what it leaves, and that a killed run ends as if it had not been."""

import contextlib
import dataclasses
import importlib
import json
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from unittest import mock

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks import runs
from configs import t2i, t2v
from core import command, video
from core.condition import Condition
from core.params import matches, names
from data import dataset, decode
from pipelines.plan import make_plan
from stunet.inflate import TEMPORAL
from stunet.unet import STUNet
from tests.chips import devices_of
from tests.conftest import SMALL
from tests.data.videos import encoded, numbered
from tests.oracles import random_params
from training import checkpoint
from training.phases import Clock
from training.sharding import make_mesh, rows
from training.state import State

PROMPT = 'a red circle growing on a black background'
STEPS, SAVE_EVERY = runs.STEPS, runs.EVERY
CHANGES = runs.CHANGES | {
  'evaluate_batch': 2,
  'sample_prompts': (PROMPT,),
  'loader.batch': 2,
  'data.frames': 4,
  'scores.metrics': ('motion',),
  'scores.videos': 2,
}
SMALLEST = {f'model.{key}': value for key, value in SMALL.items()}


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
  options = [f'--config.init_from={folder / "t2i"}']
  return runs.start(folder / name, CHANGES, config='configs/t2v.py:tiny', options=options)


@pytest.fixture(scope='module')
def whole(folder):
  """A run that nothing interrupts, and what it printed."""
  workdir = folder / 'whole'
  runs.finished(start(folder, 'whole'), workdir)
  return workdir, runs.log(workdir).read_text()


def test_a_run_that_is_killed_and_told_to_stop_ends_as_one_that_was_not(folder, whole):
  killed = folder / 'killed'
  run, at = start(folder, 'killed'), random.randrange(SAVE_EVERY + 1, STEPS // 2)
  saved = lambda: any(path.name.isdigit() for path in killed.glob('checkpoints/*'))
  assert runs.wait_until(lambda: saved() and max(runs.losses(killed), default=0) >= at, run)
  runs.kill(run)
  came = max(runs.losses(killed))

  # All that it needs is in its own workdir.
  shutil.move(folder / 't2i', folder / 'gone')
  try:
    run = start(folder, 'killed')
    assert runs.wait_until(lambda: len(runs.starts(killed)) == 2, run)
    run.send_signal(signal.SIGTERM)
    runs.finished(run, killed)
    stopped = [line['step'] for line in runs.lines(killed) if 'loss' in line][-1]
    told = f'Stopped after step {stopped} of {STEPS}.  What resumes it: '
    assert told in runs.log(killed).read_text()
    runs.finished(start(folder, 'killed'), killed)
  finally:
    shutil.move(folder / 'gone', folder / 't2i')

  _, second, third = runs.starts(killed)
  assert came - SAVE_EVERY <= second <= came
  assert third == stopped
  workdir, _ = whole
  want, got = (runs.arrays(path, STEPS) for path in (workdir, killed))
  assert got.keys() == want.keys()
  said = f'killed at step {came}, told to stop at {stopped}'
  assert [name for name in want if got[name] != want[name]] == [], said
  assert json.loads(want['data']) == {'batches': STEPS}
  losses = runs.losses(workdir)
  for line in runs.lines(killed):
    assert 'loss' not in line or line['loss'] == losses[line['step']], said


def test_two_processes_are_one(tmp_path):
  """Of a run that was begun by one of them, on other devices, to which they come later."""
  one, two = tmp_path / 'one', tmp_path / 'two'
  few = SMALLEST | {'steps': 10, 'save_every': 5}
  few |= {'scores.metrics': ('shapes',), 'scores.videos': 1}
  runs.finished(runs.start(one, few, devices=4), one)
  shutil.copytree(one, two)
  shutil.rmtree(two / 'checkpoints/10')
  processes = runs.many_processes(2, two, few)
  for process in processes:
    runs.finished(process, two)
  assert runs.starts(two) == [0, 5]
  want, got = runs.losses(one), [x for x in runs.lines(two) if 'loss' in x][-5:]
  assert [line['step'] for line in got] == [6, 7, 8, 9, 10]
  for line in got:
    assert line['loss'] == pytest.approx(want[line['step']], rel=1e-5)
  assert (two / 'evaluation/step_00000010/shapes.json').is_file()


def test_two_processes_begin_from_the_model_of_one(folder, whole):
  """Which each of them reads for its own devices."""
  workdir = folder / 'begun'
  few = {'steps': 3, 'mesh': "(('data',1),('fsdp',-1))", 'scores.metrics': ()}
  options = [f'--config.init_from={folder / "t2i"}']
  config = 'configs/t2v.py:tiny'
  for process in runs.many_processes(2, workdir, CHANGES | few, config=config, options=options):
    runs.finished(process, workdir)
  want, got = runs.losses(whole[0]), runs.losses(workdir)
  assert sorted(got) == [1, 2, 3]
  for step, loss in got.items():
    assert loss == pytest.approx(want[step], rel=1e-5)


def test_the_temporal_parameters_alone_change(folder, whole):
  workdir, printed = whole
  saved = runs.arrays(workdir, STEPS)
  of = lambda part: {n.removeprefix(part): v for n, v in saved.items() if n.startswith(part)}
  image = names(checkpoint.load(folder / 't2i')[1])
  assert of('frozen/') == {name: np.asarray(p).tobytes() for name, p in image.items()}

  _, params, step = checkpoint.load(workdir)
  params = names(params)
  assert step == STEPS
  assert {name for name in params if not matches(name, TEMPORAL)} == image.keys()
  for name, value in image.items():
    assert np.asarray(params[name]).tobytes() == np.asarray(value).tobytes()

  temporal = {name for name in params if matches(name, TEMPORAL)}
  assert of('train/params/').keys() == temporal
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

  told = runs.lines(workdir)
  losses = [line for line in told if 'loss' in line]
  assert [line['step'] for line in losses] == list(range(1, STEPS + 1))
  assert all(np.isfinite(line['loss']) and line['frames_per_s'] > 0 for line in losses)
  evaluated = {line['step']: line['evaluation_loss'] for line in told if 'evaluation_loss' in line}
  assert sorted(evaluated) == [0, STEPS // 2, STEPS]
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


def test_scores_are_in_metrics_and_with_their_protocol(whole):
  workdir, _ = whole
  folder = workdir / 'evaluation' / f'step_{STEPS:08}'
  kept = json.loads((folder / 'motion.json').read_text())
  assert kept['protocol']['clips'] == 2
  told = [line for line in runs.lines(workdir) if 'motion/motion' in line]
  assert [line['step'] for line in told] == [STEPS]
  assert told[0]['motion/motion'] == kept['score']['motion']
  assert sorted(p.suffix for p in (folder / 'videos').iterdir()) == ['.jsonl', '.mp4', '.mp4']


FLAGS = (
  'config', 'workdir', 'coordinator', 'num_processes', 'process_id', 'start_over', 'compile_for',
  'output',
)  # fmt: skip


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


def test_a_model_goes_on_from_one_that_attends_to_padding_as_it_does(train, tmp_path):
  paper, tiny = t2i.get_config('paper'), t2i.get_config('tiny')
  paper.text.source = tiny.text.source = str(tmp_path)
  assert train.told_by(paper)['mask_padding']
  assert not train.told_by(tiny)['mask_padding']
  del tiny.text.mask_padding  # as in a workdir of before there was the key
  assert not train.told_by(tiny)['mask_padding']
  # Vectors of words are masked anyway.
  paper.text.source = tiny.text.source = 'hashed'
  assert train.told_by(paper)['mask_padding'] == train.told_by(tiny)['mask_padding']


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
  run = runs.start(image, few | {'data.frames': 1}, config='configs/ssr_image.py:tiny')
  runs.finished(run, image)
  run = runs.start(both, few, config='configs/ssr.py:tiny', options=[f'--config.init_from={image}'])
  runs.finished(run, both)

  before, after = (names(checkpoint.load(tmp_path / name)[1]) for name in ('ssr_image', 'ssr'))
  for name, value in before.items():
    np.testing.assert_array_equal(after[name], value, err_msg=name)
  assert all(matches(name, TEMPORAL) for name in after.keys() - before.keys())
  samples = tmp_path / 'ssr/samples/step_00000002'
  assert sorted(path.name for path in samples.iterdir()) == ['0.mp4', '0_xt.png']
  losses = [
    line['evaluation_loss'] for line in runs.lines(tmp_path / 'ssr') if 'evaluation_loss' in line
  ]
  assert np.isfinite(losses).all()


def test_a_run_on_clips_says_what_its_evaluation_loss_is_of(train, tmp_path, capsys):
  """Which also chooses the checkpoint that stays.  Of held-out clips, and where there are none."""
  contents = encoded(numbered(8), np.arange(8) * 100)
  (tmp_path / 'a.mkv').write_bytes(contents)
  clips = [dataset.Clip('a.mkv', f'film {i}', 'train', decode.probe(contents)) for i in range(5)]
  held_out = [dataclasses.replace(clip, split='validation') for clip in clips[:3]]
  for name, of in (('one', clips), ('both', [*clips, *held_out])):
    dataset.write(tmp_path, of, tmp_path / name, shards=None)
  config = changed(t2i.get_config('tiny'))
  config.update_from_flattened_dict(SMALLEST)
  few = {'steps': 2, 'evaluate_every': 1, 'save_every': 1, 'keep': 1, 'keep_best': 1}
  few |= {'evaluate_batch': 8, 'loader.batch': 8, 'data.frames': 1, 'data.fps': 10.0}
  config.update_from_flattened_dict(few | {'scores.metrics': ()})
  for name, metric, words in (
    ('one', 'evaluation_loss_on_training_data', '5 clips of {} that are trained on: it has no'),
    ('both', 'evaluation_loss', '3 clips of the split validation of {}'),
  ):
    config.data.source, workdir = str(tmp_path / name), tmp_path / f'run {name}'
    train.train(config, workdir, Clock())
    found = [line for line in runs.lines(workdir) if any('evaluation' in key for key in line)]
    assert [line['step'] for line in found] == [0, 1, 2]
    losses = [line[metric] for line in found]
    kept = {int(path.name) for path in (workdir / 'checkpoints').iterdir()}
    assert kept == {2, 1 + int(np.argmin(losses[1:]))}
    said = f'5 examples to train on; {metric} is of {words.format(config.data.source)}'
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'mesh': (('data', 3), ('fsdp', 1))}, 'A mesh of 3x1x1 does not fit 8 devices'),
    ({'schedule.schedule': 'sine'}, "Unknown schedule: 'sine'"),
    ({'data.frames': 5}, '5 frames do not divide by the temporal factor 2'),
    ({'optim.name': 'sgd'}, "optim.name is 'sgd'"),
    ({'text.tokens': 0}, 'Got text.tokens=0; allowed is 1 or more.'),
    ({'seed': -1}, 'Got seed=-1; allowed is 0 to 4294967295.'),
    ({'data.source': '/none'}, "Got the source '/none'"),
    ({'model.resample': 'pool'}, "resample is 'pool'"),
    ({'model.patch': 3}, 'Frames of 8x8 pixels do not divide by 6.'),
    ({'loader.batch': 12}, 'A batch of 12 clips does not divide by 8'),
    (
      {'accumulate': 3},
      'A batch of 8 clips in 3 microbatches (accumulate) does not divide by 24,',
    ),
  ],
)
def test_a_wrong_config_is_refused_before_anything_is_made(train, tmp_path, change, message):
  config = changed(t2v.get_config('tiny'))
  config.update_from_flattened_dict({'loader.batch': 8} | change)
  with pytest.raises(ValueError, match=r'.+') as error:
    train.train(config, tmp_path / 'run', Clock())
  assert message in str(error.value)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('stage', ['t2v', 't2v_masked', 'ssr'])
def test_every_process_of_a_pod_sets_up(train, monkeypatch, stage):
  """32 hosts of 4 chips, with `evaluate_batch`, prompts and mesh as at scale `paper`."""
  config = importlib.import_module(f'configs.{stage}').get_config('tiny')
  config.data.update(size=8, frames=4, shorter_side=16 if stage == 'ssr' else 0)
  config.update(mesh=(('data', 1), ('fsdp', -1)), loader={'batch': 128})
  monkeypatch.setattr(jax, 'devices', lambda: devices_of('v5p:4x4x8'))
  mesh = make_mesh(config.mesh)
  plan = make_plan(config, mesh)
  seen, fixed_of = [], {}
  for process in range(32):
    monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
    data, _, (fixed,) = train.open_batches(config, mesh)
    with contextlib.closing(data):
      batch = next(data)
    for name, x in batch.items():
      assert (4, *plan.batch[name].shape[1:]) == x.shape == fixed[name].shape
      assert x.dtype == fixed[name].dtype == plan.batch[name].dtype
    seen += rows(128, mesh)
    fixed_of |= {i: video.tobytes() for i, video in zip(rows(128, mesh), fixed['video'])}
  assert sorted(seen) == list(range(128))
  assert len(set(fixed_of.values())) == config.evaluate_batch
  assert all(fixed_of[i] == fixed_of[i % config.evaluate_batch] for i in fixed_of)


@pytest.fixture
def ended(train, monkeypatch, tmp_path, capsys):
  """Calls the command where training comes to a step, with checkpoints of some, after signals;
  returns the exit status and what is on stderr."""

  def ended(step, saved, *signals, **seen):
    def came(config, workdir, clock, stopped, *, start_over):
      seen.update(start_over=start_over, lock=(workdir / 'lock.json').exists())
      clock.phase = 'step'
      for n in saved:
        (workdir / f'checkpoints/{n}').mkdir(parents=True)
        (workdir / f'checkpoints/{n}/_CHECKPOINT_METADATA').write_text('{}')
      for number in signals:
        signal.raise_signal(number)
        assert runs.wait_until(stopped, mock.Mock(poll=lambda: None))
      return State(np.int32(step), {}, {}, {}, {})

    monkeypatch.setattr(train, 'train', came)
    workdir = tmp_path / str(len(list(tmp_path.iterdir())))
    argv = ['train.py', '--config=configs/t2i.py:tiny', f'--workdir={workdir}']
    monkeypatch.setattr(sys, 'argv', [*argv, '--config.steps=25'])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as exit:
      command.run(train.main)
    assert seen == {'start_over': False, 'lock': True}
    assert not (workdir / 'lock.json').exists()
    return exit.value.code or 0, ' '.join(capsys.readouterr().err.split())

  return ended


def test_the_exit_status_says_how_a_run_ended_and_what_it_lost(ended):
  assert ended(25, [20, 25]) == (0, '')
  status, said = ended(25, [5, 10])
  assert status == 1
  assert 'error: the last checkpoint could not be saved: steps 11 to 25 are lost.' in said
  status, said = ended(12, [10], signal.SIGTERM)
  assert (status, said.count('Stopped after step 12 of 25. What resumes it: ')) == (1, 1)
  assert 'steps 11 to 12 are lost' in said
  status, said = ended(25, [])
  assert (status, said.count('steps 1 to 25 are lost')) == (1, 1)


def test_a_run_that_ctrl_c_has_stopped_ends_with_130_and_is_resumable(ended):
  status, said = ended(12, [10, 12], signal.SIGINT)
  assert (status, said.count('Stopped after step 12 of 25. What resumes it: ')) == (130, 1)
  assert ended(12, [12], signal.SIGTERM)[0] == 0
  assert ended(25, [25], signal.SIGINT)[0] == 0  # it was done
  assert ended(12, [10], signal.SIGINT)[0] == 1


def test_a_run_that_is_interrupted_before_its_first_step_ends_in_one_line(
  train, monkeypatch, tmp_path, capsys
):
  end = mock.Mock(side_effect=SystemExit)
  monkeypatch.setattr(train.interrupt, 'end_process', end)
  monkeypatch.setattr(train, 'train', mock.Mock(side_effect=KeyboardInterrupt))
  argv = ['train.py', '--config=configs/t2i.py:tiny', f'--workdir={tmp_path}/run']
  monkeypatch.setattr(sys, 'argv', argv)
  with flagsaver.flagsaver(), pytest.raises(SystemExit):
    command.run(train.main)
  end.assert_called_once_with(130)
  assert capsys.readouterr().err == 'error: interrupted.\n'
  assert list(tmp_path.iterdir()) == []
