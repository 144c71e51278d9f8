"""`train.py` called in this process: what it refuses, how it sets up, and how it ends."""

import contextlib
import dataclasses
import importlib
import io
import re
import signal
import sys
from unittest import mock

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from benchmarks import runs
from configs import t2i, t2v
from core import command, config_help
from core.sharding import make_mesh, rows
from data import dataset, decode
from pipelines import Pipeline
from pipelines.stages import open_stage
from tests.chips import devices_of
from tests.data.videos import encoded, numbered
from tests.scripts import script
from tests.tiny_run import SMALLEST, changed
from training.batches import open_batches
from training.phases import Clock
from training.plan import make_plan
from training.start import text_settings
from training.state import State

FLAGS = (
  'config', 'workdir', 'coordinator', 'num_processes', 'process_id', 'start_over', 'compile_for',
  'output', 'dry_run', 'devices',
)  # fmt: skip
WIDE = (8, 12)


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


def test_a_model_goes_on_from_one_that_attends_to_padding_as_it_does(tmp_path):
  paper, tiny = t2i.get_config('paper'), t2i.get_config('tiny')
  paper.text.source = tiny.text.source = str(tmp_path)
  assert text_settings(paper)['mask_padding']
  assert not text_settings(tiny)['mask_padding']
  del tiny.text.mask_padding  # as in a workdir of before there was the key
  assert not text_settings(tiny)['mask_padding']
  # Vectors of words are masked anyway.
  paper.text.source = tiny.text.source = 'hashed'
  assert text_settings(paper)['mask_padding'] == text_settings(tiny)['mask_padding']


@pytest.fixture(scope='module')
def runs_on_clips(tmp_path_factory):
  """Two runs on wide frames of clips, without and with held-out clips, in `run one` and `run both`
  of a folder; the latter has samples.  The folder, and what each of them printed."""
  folder, printed = tmp_path_factory.mktemp('clips'), {}
  contents = encoded(numbered(8), np.arange(8) * 100)
  (folder / 'a.mkv').write_bytes(contents)
  clips = [dataset.Clip('a.mkv', f'film {i}', 'train', decode.probe(contents)) for i in range(5)]
  held_out = [dataclasses.replace(clip, split='validation') for clip in clips[:3]]
  config = changed(t2i.get_config('tiny'))
  config.update_from_flattened_dict(SMALLEST)
  few = {'steps': 2, 'evaluate_every': 1, 'save_every': 1, 'keep': 1, 'keep_best': 1}
  few |= {'evaluate_batch': 8, 'loader.batch': 8, 'data.frames': 1, 'data.fps': 10.0}
  config.update_from_flattened_dict(few | {'data.size': WIDE, 'scores.metrics': ()})
  for name, some_clips in (('one', clips), ('both', [*clips, *held_out])):
    dataset.write(folder, some_clips, folder / name, shards=None)
    config.data.source = str(folder / name)
    output = io.StringIO()
    with script('train') as train, pytest.MonkeyPatch.context() as patch:
      if name == 'one':
        patch.setattr(train, 'make_write_samples', lambda *args: lambda params, step: None)
      patch.setattr(sys, 'stderr', output)
      train.train(config, folder / f'run {name}', Clock())
    printed[name] = output.getvalue()
  return folder, printed


@pytest.mark.parametrize(
  ('name', 'metric', 'words'),
  [
    ('one', 'evaluation_loss_on_training_data', '5 clips of {} that are trained on: it has no'),
    ('both', 'evaluation_loss', '3 clips of the split validation of {}'),
  ],
)
def test_a_run_on_clips_says_what_its_evaluation_loss_is_of(runs_on_clips, name, metric, words):
  """Which also chooses the checkpoint that stays."""
  folder, printed = runs_on_clips
  workdir = folder / f'run {name}'
  evaluations = [line for line in runs.lines(workdir) if any('evaluation' in key for key in line)]
  assert [line['step'] for line in evaluations] == [0, 1, 2]
  losses = [line[metric] for line in evaluations]
  kept = {int(path.name) for path in (workdir / 'checkpoints').iterdir()}
  assert kept == {2, 1 + int(np.argmin(losses[1:]))}
  output = f'5 examples to train on; {metric} is of {words.format(folder / name)}'
  assert output in printed[name]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'mesh': (('data', 3), ('fsdp', 1))}, 'A mesh of 3x1x1 does not fit 8 devices'),
    ({'schedule.schedule': 'sine'}, "Unknown schedule: 'sine'"),
    ({'data.frames': 5}, '5 frames do not divide by the temporal factor 2'),
    (
      {'model.temporal': False},
      'Got clips of 4 frames (data.frames=4) for an image model; allowed',
    ),
    ({'optim.name': 'sgd'}, "optim.name is 'sgd'"),
    ({'text.tokens': 0}, 'Got text.tokens=0; allowed is 1 or more.'),
    ({'seed': -1}, 'Got seed=-1; allowed is 0 to 4294967295.'),
    ({'data.source': '/none'}, "Got the source '/none'"),
    ({'data.mixture': ('docs', 1.0)}, "Got data.mixture=('docs', 1.0); allowed are names of sour"),
    ({'data.mixture': (('/none', 1.0),)}, "Got the source '/none'"),
    ({'data.buckets': (4, 8, 8)}, 'Got data.buckets=(4, 8, 8); allowed are different shapes'),
    ({'data.source': 'docs'}, 'python -m data.builder --videos=docs --captions=FILE --out='),
    ({'trainable': ('.*temporal.*',)}, 'Frozen parameters need a trained model'),
    ({'tracker.name': 'mlflow'}, "Got tracker.name='mlflow'"),
    ({'model.resample': 'pool'}, "resample is 'pool'"),
    ({'model.patch': 3}, 'Frames of 8x8 pixels do not divide by 6; allowed are '),
    ({'data.size': (8, 9)}, 'of which the nearest are 8x8, 8x10.'),
    ({'data.size': 'large'}, "Got frames of the size 'large'; allowed is a whole number"),
    ({'data.size': (8, 8, 8)}, 'Got frames of the size (8, 8, 8); allowed is a whole number'),
    ({'loader.batch': 12}, 'Got a batch of 12 clips; allowed are multiples of 8 (data times'),
    ({'accumulate': 3}, 'Got a batch of 8 clips; allowed are multiples of 24 (accumulate=3 t'),
  ],
)
def test_a_wrong_config_is_refused_before_anything_is_made(train, tmp_path, change, message):
  config = changed(t2v.get_config('tiny'))
  config.update_from_flattened_dict({'loader.batch': 8, 'trainable': ('.*',)} | change)
  with pytest.raises(ValueError, match=r'.+') as error:
    train.train(config, tmp_path / 'run', Clock())
  assert message in str(error.value)
  assert list(tmp_path.iterdir()) == []


def test_the_command_takes_frames_of_any_shape(train, monkeypatch, tmp_path):
  configs, workdir = [], tmp_path / 'run'
  monkeypatch.setattr(train, 'run', lambda config, workdir: configs.append(config))
  size = f'--config.data.size={WIDE}'
  argv = ['train.py', '--config=configs/t2i.py:tiny', f'--workdir={workdir}', size]
  monkeypatch.setattr(sys, 'argv', argv)
  with flagsaver.flagsaver(), contextlib.suppress(SystemExit):
    command.run(train.main)
  [config] = configs
  assert config.data.size == WIDE


def test_samples_and_models_of_a_run_have_its_frames(runs_on_clips):
  workdir = runs_on_clips[0] / 'run both'
  assert {np.asarray(Image.open(file)).shape for file in workdir.rglob('*.png')} == {(*WIDE, 3)}
  assert Pipeline.load(workdir, steps=1).size == WIDE


@pytest.mark.parametrize('stage', ['t2v', 't2v_masked', 'ssr'])
def test_every_process_of_a_pod_sets_up(monkeypatch, stage):
  """32 hosts of 4 chips, with `evaluate_batch`, prompts and mesh as at scale `paper`."""
  config = importlib.import_module(f'configs.{stage}').get_config('tiny')
  config.data.update(size=8, frames=4, shorter_side=16 if stage == 'ssr' else 0)
  config.update(mesh=(('data', 1), ('fsdp', -1)), loader={'batch': 128})
  monkeypatch.setattr(jax, 'devices', lambda: devices_of('v5p:4x4x8'))
  mesh = make_mesh(config.mesh)
  plan = make_plan(config, mesh, open_stage)
  seen, fixed_of = [], {}
  for process in range(32):
    monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
    data, _, (fixed,) = open_batches(config, plan.stage, mesh)
    with contextlib.closing(data):
      batch = next(data)
    for name, x in batch.items():
      assert (4, *plan.largest[name].shape) == x.shape == fixed[name].shape
      assert x.dtype == fixed[name].dtype == plan.largest[name].dtype
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
    def came(config, workdir, clock, stop_signal, *, start_over):
      seen.update(start_over=start_over, lock=(workdir / 'lock.json').exists())
      clock.phase = 'step'
      for n in saved:
        (workdir / f'checkpoints/{n}').mkdir(parents=True)
        (workdir / f'checkpoints/{n}/_CHECKPOINT_METADATA').write_text('{}')
      for number in signals:
        signal.raise_signal(number)
        assert runs.wait_until(stop_signal, mock.Mock(poll=lambda: None))
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
  status, output = ended(25, [5, 10])
  assert status == 1
  assert 'error: the last checkpoint could not be saved: steps 11 to 25 are lost.' in output
  status, output = ended(12, [10], signal.SIGTERM)
  assert (status, output.count('Stopped after step 12 of 25. What resumes it: ')) == (1, 1)
  assert 'steps 11 to 12 are lost' in output
  status, output = ended(25, [])
  assert (status, output.count('steps 1 to 25 are lost')) == (1, 1)


def test_a_run_that_ctrl_c_has_stopped_ends_with_130_and_is_resumable(ended):
  status, output = ended(12, [10, 12], signal.SIGINT)
  assert (status, output.count('Stopped after step 12 of 25. What resumes it: ')) == (130, 1)
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


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (
      ['--dry_run', '--config=configs/t2v.py:tiny', '--workdir=runs/t2v'],
      '--dry_run needs --config=configs/STAGE.py:SCALE, and no --workdir.',
    ),
    (['--devices=8', '--config=configs/t2v.py:tiny'], '--devices is of no use without --dry_run.'),
  ],
)
def test_flags_that_a_dry_run_and_a_run_do_not_share(
  arguments, message, train, monkeypatch, capsys
):
  monkeypatch.setattr(sys, 'argv', ['train.py', *arguments])
  with flagsaver.flagsaver(), pytest.raises(SystemExit, match='2'):
    command.run(train.main)
  assert capsys.readouterr().err == f'error: {message}\n'


def test_help_names_the_stages_the_scales_and_the_most_used_keys(train, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['train.py', '--help'])
  with pytest.raises(SystemExit, match='0'):
    command.run(train.main, config_help.of_configs)
  text = capsys.readouterr().out
  assert text.startswith('Trains one stage of the model.')
  for stage in ('ssr', 'ssr_image', 'style', 't2i', 't2v', 't2v_masked'):
    rest = text.partition(f'  configs/{stage}.py: ')[2]
    assert {'tiny', 'demo'} <= set(rest.splitlines()[1].strip().split(', ')), stage
  assert '--config.steps: The run ends after this number of steps. (default: 1000)' in text
  assert all(f'--config.{key}: ' in text for key in config_help.KEYS)
  for name in FLAGS:
    assert re.fullmatch(r'[A-Z]\S* (\S+ )+\S+\.', ' '.join(flags.FLAGS[name].help.split())), name
