"""Trackers: packages that record what they are given stand for them, and the real ones offline."""

import importlib.util
import json
import sqlite3
import sys

import numpy as np
import pytest

from core import video
from training.metrics import Metrics
from training.trackers import TRACKERS, open_tracker, require_tracker

FAKE = """
CALLS = []

class Settings:
  def __init__(self, **options):
    CALLS.append(('settings', options))

class Video:
  def __init__(self, path, caption):
    self.args = ('video', path.rsplit('/')[-1], caption)

class Image:
  def __init__(self, path, caption):
    self.args = ('image', path.rsplit('/')[-1], caption)

class errors:
  class Error(Exception):
    pass

class Run:
  def define_metric(self, *args, **options):
    CALLS.append(('define_metric', args, options))

  def log(self, values, **options):
    CALLS.append(('log', {k: getattr(v, 'args', v) for k, v in values.items()}, options))

  def finish(self, exit_code=0):
    CALLS.append('finish')

def login():
  if CALLS == ['nobody']:
    raise errors.Error('No API key configured.')

def init(**options):
  CALLS.append(('init', options))
  return Run()
"""


@pytest.fixture
def fake(monkeypatch, tmp_path):
  """Puts a package of a name where it is imported first; returns its calls."""

  def fake(name):
    folder = tmp_path / 'packages'
    folder.mkdir()
    (folder / f'{name}.py').write_text(FAKE)
    monkeypatch.setitem(sys.modules, name, None)  # to be undone afterwards
    del sys.modules[name]
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name).CALLS

  return fake


@pytest.fixture
def workdir(tmp_path):
  """A workdir with a video and an image."""
  workdir = tmp_path / 't2v'
  workdir.mkdir()
  for path in ('0.mp4', '0.png'):
    video.write(workdir / path, np.zeros((2, 8, 8, 3), np.uint8))
  return workdir


def log_run(workdir, name, step):
  """Logs a loss, a video and an image with a new or resumed run."""
  settings = dict(name=name, project='lumiere', run='')
  require_tracker(**settings)
  frames = np.zeros((2, 8, 8, 3), np.uint8)
  with Metrics(workdir, open_tracker(workdir, {'steps': 3}, **settings)) as metrics:
    metrics.write(step, {'loss': 0.5})
    for i, path in enumerate(('0.mp4', '0.png')):
      metrics.write_video(step, f'samples/{i}', workdir / path, frames, fps=4.0, caption='a ring')


def test_wandb_gets_metrics_and_videos_and_a_resumed_run_continues(workdir, fake):
  calls = fake('wandb')
  for step in (3, 2):
    log_run(workdir, 'wandb', step)
  runs = [call[1] for call in calls if call[0] == 'init']
  assert [run['id'] for run in runs] == [(workdir / 'tracker_id').read_text()] * 2
  assert {(run['project'], run['name'], run['resume']) for run in runs} == {
    ('lumiere', 't2v', 'allow')
  }
  assert {(run['dir'], run['config']['steps']) for run in runs} == {(str(workdir), 3)}
  assert ('define_metric', ('*',), {'step_metric': 'step'}) in calls
  logged = [call[1:] for call in calls if call[0] == 'log']
  assert logged[:3] == [
    ({'step': 3, 'loss': 0.5}, {}),
    ({'step': 3, 'samples/0': ('video', '0.mp4', 'a ring')}, {}),
    ({'step': 3, 'samples/1': ('image', '0.png', 'a ring')}, {}),
  ]
  assert calls[-1] == 'finish'


def test_trackio_gets_metrics_and_videos_and_a_resumed_run_continues(workdir, fake):
  calls = fake('trackio')
  for step in (3, 2):
    log_run(workdir, 'trackio', step)
  runs = [call[1] for call in calls if call[0] == 'init']
  name = (workdir / 'tracker_id').read_text()
  assert name.startswith('t2v-')
  assert (
    runs == [{'project': 'lumiere', 'name': name, 'resume': 'allow', 'config': {'steps': 3}}] * 2
  )
  logged = [call[1:] for call in calls if call[0] == 'log']
  assert logged[:3] == [
    ({'loss': 0.5}, {'step': 3}),
    ({'samples/0': ('video', '0.mp4', 'a ring')}, {'step': 3}),
    ({'samples/1': ('image', '0.png', 'a ring')}, {'step': 3}),
  ]
  assert calls[-1] == 'finish'


def test_no_tracker_imports_nothing(workdir):
  before = set(sys.modules)
  require_tracker(name='', project='lumiere', run='')
  assert open_tracker(workdir, {}, name='', project='lumiere', run='') is None
  assert not set(TRACKERS) & (set(sys.modules) - before)
  assert not (workdir / 'tracker_id').exists()


def test_a_tracker_that_cannot_be_used_is_refused_in_one_line(monkeypatch, fake):
  with pytest.raises(
    ValueError, match=r"Got tracker.name='mlflow'; allowed are trackio, wandb, and"
  ):
    require_tracker(name='mlflow', project='lumiere', run='')
  with monkeypatch.context() as patch:
    patch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(
      ValueError, match=r'^tracker.name=wandb needs a package: pip install wandb$'
    ):
      require_tracker(name='wandb', project='lumiere', run='')
  calls = fake('wandb')
  with pytest.raises(ValueError, match=r"Got tracker.project=''; wandb needs the name"):
    require_tracker(name='wandb', project='', run='')
  calls.append('nobody')  # is logged in: that is said before the workdir is written to
  with pytest.raises(ValueError, match=r'^tracker.name=wandb: No API key configured\.$'):
    require_tracker(name='wandb', project='lumiere', run='')


def test_a_folder_that_wandb_left_is_not_the_package(monkeypatch, tmp_path):
  (tmp_path / 'wandb').mkdir()
  monkeypatch.setattr(sys, 'path', [str(tmp_path)])
  monkeypatch.delitem(sys.modules, 'wandb', raising=False)
  with pytest.raises(ValueError, match='pip install wandb'):
    require_tracker(name='wandb', project='lumiere', run='')


def test_wandb_offline(workdir, monkeypatch):
  pytest.importorskip('wandb', reason='wandb is not installed: pip install wandb')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  log_run(workdir, 'wandb', 3)
  (folder,) = (workdir / 'wandb').glob('offline-run-*')
  assert (workdir / 'tracker_id').read_text() in folder.name
  assert list(folder.glob('files/media/videos/samples/0_*.mp4'))
  assert list(folder.glob('files/media/images/samples/1_*.png'))


def test_trackio_on_this_machine(workdir, monkeypatch, tmp_path):
  monkeypatch.setenv('TRACKIO_DIR', str(tmp_path / 'trackio'))  # which it reads when imported
  pytest.importorskip('trackio', reason='trackio is not installed: pip install trackio')
  for step in (3, 4):
    log_run(workdir, 'trackio', step)
  with sqlite3.connect(tmp_path / 'trackio' / 'lumiere.db') as database:
    rows = database.execute('select run_name, step, metrics from metrics order by id').fetchall()
  assert {run for run, _, _ in rows} == {(workdir / 'tracker_id').read_text()}
  losses = [(step, json.loads(text)) for _, step, text in rows if b'loss' in text]
  assert losses == [(3, {'loss': 0.5}), (4, {'loss': 0.5})]
  assert len(list((tmp_path / 'trackio' / 'media').rglob('*.mp4'))) == 2
