"""A student from its teacher to a model that is sampled, by `train.py` and the export."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import distill, t2v
from core.condition import Condition
from core.params import TEACHER, count, names
from core.sharding import make_mesh, replicated
from pipelines.checkpoints import find_base
from pipelines.model import Model
from pipelines.stages import open_stage
from stunet.unet import STUNet
from tests.oracles import random_params
from tests.scripts import script
from tests.tiny_run import SMALLEST, changed
from training import arrays, checkpoint, compile_for
from training.export import export, write_model
from training.phases import Clock
from training.slices import GENERATIONS, Slice

SMALL = SMALLEST | {'scores.metrics': ()}


@pytest.fixture(scope='module')
def workdirs(tmp_path_factory):
  """A teacher of random weights, and the student after two steps."""
  folder = tmp_path_factory.mktemp('runs')
  config = changed(t2v.get_config('tiny'))
  config.update_from_flattened_dict(SMALL)
  x, t = jnp.zeros((1, 4, 8, 8, 3)), jnp.zeros(1)
  cond = Condition(jnp.zeros((1, config.text.tokens, config.text.width)))
  model = STUNet(**config.model)
  params = random_params(jax.eval_shape(model.init, jax.random.key(0), x, t, cond)['params'])
  write_model(folder / 'teacher', config, params, 1)
  student = changed(distill.get_config('tiny'))
  student.update_from_flattened_dict(SMALL)
  student.update(init_from=str(folder / 'teacher'), steps=2, save_every=1)
  student.distill.update(steps=2, teacher_steps=2)
  with script('train') as train, pytest.MonkeyPatch.context() as patch:
    # To compile what makes samples takes long.
    patch.setattr(train, 'make_write_samples', lambda *args: lambda params, step: None)
    train.train(student, folder / 'student', Clock())
  return folder / 'teacher', folder / 'student'


def test_the_teacher_stays_and_the_student_learns(workdirs):
  teacher, student = workdirs
  _, before, _ = checkpoint.load(teacher)
  config, after, step = checkpoint.load(student)
  assert (config.stage, step) == ('distill', 2)
  before, after = names(before), names(after)
  assert before.keys() == after.keys()  # the teacher's parameters are not the model's
  assert any(not np.array_equal(before[name], after[name]) for name in before)
  frozen = names(arrays.read((student / 'frozen').resolve(), arrays.on_one_device))
  for name, value in before.items():
    np.testing.assert_array_equal(frozen[f'{TEACHER}/{name}'], value)


def test_a_student_is_exported_and_sampled_without_its_teacher(workdirs, tmp_path):
  _, student = workdirs
  export(student, tmp_path / 'exported', 'float32')
  base = find_base(tmp_path / 'exported')
  model = Model.open(base.config, 1).with_params(base.load())
  keys = jax.random.split(jax.random.key(0), 1)
  [video] = model.generate(model.encode(['a red circle growing on a black background']), keys)
  assert video.shape == (4, 8, 8, 3)
  assert np.isfinite(video).all()


def test_the_forecast_of_a_student_has_no_teacher(workdirs, monkeypatch):
  _, student = workdirs
  config, params, _ = checkpoint.load(student)
  on = Slice('v5p:1x1x1', GENERATIONS['v5p'], jax.devices()[:1])
  monkeypatch.setattr(compile_for, 'forecast', lambda *args: {})  # of programs for TPUs alone
  sharding = replicated(make_mesh((('data', 1),), on.devices))
  program = compile_for.forecast_sampling(config, open_stage(config), on, 1, sharding)
  assert program['parameters'] == count(params)


def test_a_stage_that_is_no_teacher_is_refused():
  config = distill.get_config('tiny')
  for stage in ('distill', 'video'):
    config.distill.stage = stage
    with pytest.raises(ValueError, match=f'distill.stage is {stage!r}; allowed is the stage of'):
      open_stage(config)
