"""A student from its teacher to a model that is sampled, by `train.py` and the export."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import distill, t2v, t2v_masked
from core.condition import Condition
from core.params import TEACHER, count, names, without_teacher
from core.sharding import make_mesh, replicated
from diffusion.denoiser import guided, network
from diffusion.sampling import InitialVideo, make_sample, video_keys
from pipelines.checkpoints import find_base
from pipelines.checks import require_initial_video
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
from training.start import require_parent
from training.step import pixels

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
  student.sampling.steps = student.distill.teacher_steps = 2
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
  shapes = arrays.saved_arrays((tmp_path / 'exported').resolve() / 'checkpoints' / '2' / 'ema')
  assert shapes
  assert TEACHER not in shapes
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
    with pytest.raises(ValueError, match=f'distill.stage is {stage!r}; allowed is that of the te'):
      open_stage(config)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'sampling.sampler': 'dpmpp_2m'}, 'a student needs ddim and 1.'),
    ({'sampling.guidance': 3.0}, 'The scale of guidance of its teacher is distill.guidance'),
    ({'sampling.spacing': 'leading'}, 'sampling.spacing is leading, whose times for 4 steps'),
    ({'schedule.prediction': 'eps'}, 'allowed in distillation are v and x0'),
    ({'less_noisy': 4.0}, 'A student is trained at the times of its steps'),
    ({'log_snr.std': 1.0}, 'A student is trained at the times of its steps'),
  ],
)
def test_what_a_student_cannot_have_is_refused(changes, message):
  config = distill.get_config('tiny')
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=message):
    open_stage(config)


def test_a_student_is_sampled_as_it_was_trained(workdirs):
  _, student = workdirs
  with pytest.raises(ValueError, match='Got guidance, steps for a student of 2 steps'):
    find_base(student, steps=4, guidance=2.0)
  video = InitialVideo(jnp.zeros((1, 4, 8, 8, 3)), jnp.asarray(0.5))
  with pytest.raises(ValueError, match='starts from noise alone'):
    require_initial_video(video, find_base(student).config)
  config = checkpoint.load_config(student)
  config.sampling.steps = 4
  with pytest.raises(ValueError, match=r'sampling.steps differ'):
    checkpoint.check_config(student, config)


def test_a_teacher_computes_what_its_student_does(workdirs):
  teacher, student = workdirs
  config = checkpoint.load_config(student)
  for parent in (teacher, student):
    require_parent(parent, config)
  for changes, key in (
    ({'model.frame_step': 4}, 'it has no model.frame_step'),
    ({'schedule.shift': -1.0}, 'it has no schedule.shift'),
    ({'distill.stage': 't2i'}, 'stage=t2v'),
  ):
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=f'cannot be the teacher of this student, .*{key}'):
      require_parent(teacher, other)


@pytest.mark.parametrize('stage', ['t2v', 't2v_masked', 'ssr'])
def test_the_target_is_the_video_that_the_teacher_makes_with_guidance(stage):
  """Of one step from t = 1, where the noisy video is the noise; the sampler is the reference."""
  config = changed(distill.get_config('demo_ssr' if stage == 'ssr' else 'tiny'))
  config.update_from_flattened_dict(SMALLEST)
  config.distill.update(stage=stage, teacher_steps=3, guidance=2.5)
  config.sampling.update(sampler='ddim', steps=1, guidance=1.0, threshold='dynamic')
  config.residual = stage == 'ssr'
  config.schedule.prediction = 'x0'
  if stage == 't2v_masked':
    config.masks = t2v_masked.get_config('tiny').masks
  opened = open_stage(config)
  batch = jax.tree.map(lambda x: jnp.ones((1, *x.shape), x.dtype), dict(opened.batch))
  batch['video'] = jax.random.randint(jax.random.key(2), batch['video'].shape, 0, 256)
  if stage == 't2v_masked':
    batch['mask'] = jnp.arange(batch['mask'].shape[1])[None, :, None, None] < 1 * batch['mask']
  x0 = pixels(batch['video'])
  cond = opened.make_condition(jax.random.key(3), x0, batch)
  params = random_params(jax.eval_shape(opened.init, jax.random.key(0), x0, jnp.zeros(1), cond))

  keys = video_keys(0, jnp.arange(1))
  first, _ = jax.vmap(jax.random.split, out_axes=1)(keys)
  noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(first)
  target = jax.jit(lambda params: opened.target(params, x0, noise, jnp.ones(1), cond)[0])
  got = target(params)

  options = dict(steps=3, threshold='dynamic', spacing=config.sampling.spacing)
  sample = make_sample(opened.process, sampler='ddim', **options)
  config.stage = stage
  teacher = guided(network(open_stage(config).apply, params[TEACHER], opened.process), 2.5)
  want = sample(teacher, cond, x0.shape[1:], keys)
  np.testing.assert_allclose(got, want, atol=1e-3)
  swapped = {**params[TEACHER], TEACHER: without_teacher(params)}
  assert np.abs(target(swapped) - want).max() > 0.01
